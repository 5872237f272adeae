"""The bare view in the smallest project: no middleware, no session, no translation; the same server and connection pool."""

import os

import environ

SECRET_KEY = "stands only in a benchmark"  # noqa: S105
ALLOWED_HOSTS = ["127.0.0.1"]
DATABASES = {"default": environ.Env.db_url_config(os.environ["DATABASE_URL"])}
DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 10, "timeout": 10}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["benchmarks.bare_site"]
MIDDLEWARE: list[str] = []
ROOT_URLCONF = "benchmarks.bare_site.views"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
USE_I18N = False
USE_TZ = True
