"""The bare view in our own project: same middleware, sessions, CSRF, template engine, connection pool and URLs."""

from annotation_site.settings import *  # noqa: F403
from annotation_site.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.bare_site"]
ROOT_URLCONF = "benchmarks.bare_site.urls"
