"""A web that hands the broker's refusal on to the person: what R4 must notice."""

from annotation_site.wsgi import application
from apps.core import enqueue

__all__ = ["application"]

enqueue.REFUSALS = ()
