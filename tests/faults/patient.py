"""A web that waits for a lock or a statement as long as it takes: what R3 must notice."""

from django.conf import settings

settings.WEB_DATABASE_OPTIONS = ""

from annotation_site.wsgi import application  # noqa: E402  (it reads the setting)

__all__ = ["application"]
