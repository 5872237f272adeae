"""WSGI entry point: `gunicorn annotation_site.wsgi`."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotation_site.settings")

_database = settings.DATABASES["default"]
if _database["ENGINE"].endswith("postgresql"):
    _database["OPTIONS"]["options"] = settings.WEB_DATABASE_OPTIONS

application = get_wsgi_application()
