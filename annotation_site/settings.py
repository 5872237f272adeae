"""The one settings module. What differs between machines comes from the environment (see .env.example).

`POLYPHONY_ENVIRONMENT=development` (default) runs without any server: SQLite, Celery over files, secrets made and kept under `var/`.
`POLYPHONY_ENVIRONMENT=production` has no default secret and refuses to start with an unsafe value.
"""

import sys
from pathlib import Path

import environ
from celery.schedules import crontab
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from annotation_site import environment as env

BASE_DIR = Path(__file__).resolve().parent.parent
env.load_env_file(BASE_DIR / ".env")

ENVIRONMENT = env.choice("POLYPHONY_ENVIRONMENT", ["development", "production"], "development")
PRODUCTION = ENVIRONMENT == "production"
TESTING = "pytest" in sys.modules
VAR_DIR = Path(env.text("POLYPHONY_VAR_DIR", str(BASE_DIR / ("var/test" if TESTING else "var"))))
if TESTING and env.text("PYTEST_XDIST_WORKER", ""):
    VAR_DIR /= env.text("PYTEST_XDIST_WORKER")  # parallel test processes share no queue and no file
DEBUG = env.flag("DEBUG", False)
# Behind TLS everywhere but on a developer's own machine; HTTPS=false exists for a production-like run on loopback.
HTTPS = env.flag("HTTPS", PRODUCTION)

# Sessions · pseudonyms in releases · what links share with panels · encryption of panel identities (several keys: the first encrypts).
SECRET_KEY, PSEUDONYM_KEY, PANEL_KEY, IDENTITY_KEY = (
    env.text(name) if PRODUCTION else env.text(name, "") or env.kept_secret(name, VAR_DIR / "secrets.json")
    for name in ("SECRET_KEY", "PSEUDONYM_KEY", "PANEL_KEY", "IDENTITY_KEY")
)
if PRODUCTION:
    ALLOWED_HOSTS = env.listing("ALLOWED_HOSTS")
else:
    ALLOWED_HOSTS = env.listing("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]" + (",testserver" if TESTING else ""))
CSRF_TRUSTED_ORIGINS = env.listing("CSRF_TRUSTED_ORIGINS")

# --- Database -------------------------------------------------------------------------------------------------------

DATABASE_URL = env.url("DATABASE_URL", ["postgres", "postgresql", "sqlite"], "" if PRODUCTION else f"sqlite:///{VAR_DIR}/db.sqlite3")
if not DATABASE_URL:
    raise ImproperlyConfigured("DATABASE_URL is not set; production needs PostgreSQL, for example postgres://user@host/name.")
DATABASES = {"default": environ.Env.db_url_config(DATABASE_URL)}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # IMMEDIATE: a deferred transaction that turns into a writer fails at once under contention (measured, see docs/packages.md).
    Path(DATABASES["default"]["NAME"]).parent.mkdir(parents=True, exist_ok=True)
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
    # A file: the default of tests, one shared connection in memory, cannot serve the threads of a live server and a worker.
    DATABASES["default"]["TEST"] = {"NAME": str(VAR_DIR / "test.sqlite3")}
else:
    DATABASES["default"]["OPTIONS"] = {
        # Statements are prepared at their sixth run: that halves PostgreSQL's part of a page (docs/performance.md). A pooler between
        # us and PostgreSQL must keep prepared statements per client, as PgBouncer does from 1.21 on.
        "server_side_binding": True,
        "prepare_threshold": 5,
        "pool": False if TESTING else {"min_size": 1, "max_size": env.integer("DATABASE_POOL_SIZE", 10, minimum=1), "timeout": 10},
    }
# What a web request puts up with before it answers 503; workers and commands may take longer. Set by wsgi.py.
# Compiling a statement pays only where it runs for many seconds.
WEB_DATABASE_OPTIONS = "-c lock_timeout=5s -c statement_timeout=20s -c jit=off"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Applications ---------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "modeltranslation",
    "apps.core",
    "apps.accounts",
    "apps.studies",
    "apps.content",
    "apps.annotators",
    "apps.generation",
    "apps.quotas",
    "apps.annotation",
    "apps.quality",
    "apps.exports",
    "apps.api",
    "apps.desk.apps.DeskConfig",
    "apps.desk.apps.DeskAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "csp",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "apps.annotation.middleware.AnnotatorMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "annotation_site.urls"
WSGI_APPLICATION = "annotation_site.wsgi.application"
AUTH_USER_MODEL = "accounts.User"
LOGIN_URL = "admin:login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
FORM_RENDERER = "django.forms.renderers.DjangoTemplates"

# --- Languages and time ---------------------------------------------------------------------------------------------

# Interface catalogues. A new language is one line here and one in CONTENT_LANGUAGES, a generated migration and a catalogue.
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("fr", "Français"), ("it", "Italiano"), ("pt-br", "Português (Brasil)"), ("hi", "हिन्दी")]
LOCALE_PATHS = [BASE_DIR / "locale"]
FORMAT_MODULE_PATH = "annotation_site.formats"
# Languages of prompts, titles and instruction templates. Never a fallback: a person sees their language or nothing.
CONTENT_LANGUAGES = ("en", "fr", "it", "pt", "hi")
MODELTRANSLATION_LANGUAGES = CONTENT_LANGUAGES
MODELTRANSLATION_DEFAULT_LANGUAGE = "en"
MODELTRANSLATION_FALLBACK_LANGUAGES = ()
MODELTRANSLATION_ENABLE_FALLBACKS = False
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

# --- Files ----------------------------------------------------------------------------------------------------------

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = Path(env.text("STATIC_ROOT", str(VAR_DIR / "static")))
if not PRODUCTION:
    STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # stays empty here, but WhiteNoise warns about a folder that is missing
RELEASES_DIR = Path(env.text("RELEASES_DIR", str(VAR_DIR / "releases")))
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(VAR_DIR / "files")}},
    "releases": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(RELEASES_DIR)}},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if PRODUCTION
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = not PRODUCTION
WHITENOISE_AUTOREFRESH = DEBUG
# Besides what is compressed already: source maps, which only debuggers read and which take most of the build's time.
WHITENOISE_SKIP_COMPRESS_EXTENSIONS = ["jpg", "jpeg", "png", "gif", "webp", "zip", "gz", "br", "woff", "woff2", "map"]
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

# --- Security -------------------------------------------------------------------------------------------------------

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 14 * 24 * 3600
CSRF_COOKIE_HTTPONLY = True
CSRF_FAILURE_VIEW = "apps.annotation.views.errors.csrf_failure"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
if HTTPS:
    SECURE_SSL_REDIRECT = env.flag("SECURE_SSL_REDIRECT", True)
    SECURE_HSTS_SECONDS = env.integer("SECURE_HSTS_SECONDS", 365 * 24 * 3600)
    SECURE_HSTS_INCLUDE_SUBDOMAINS = env.flag("SECURE_HSTS_INCLUDE_SUBDOMAINS", True)
    SECURE_HSTS_PRELOAD = env.flag("SECURE_HSTS_PRELOAD", True)
    if env.flag("TRUST_PROXY_HTTPS_HEADER", False):
        SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_REDIRECT_EXEMPT = [r"^healthz/$"]

# --- Celery ---------------------------------------------------------------------------------------------------------

REDIS_URL = env.url("REDIS_URL", ["redis", "rediss"], None if PRODUCTION else "")
if REDIS_URL:
    CELERY_BROKER_URL = REDIS_URL
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "visibility_timeout": 600,
        "queue_order_strategy": "priority",
        "unacked_restore_interval": 2,
        "unacked_restore_throttle": 1,
        "socket_connect_timeout": 2,
    }
    if env.text("PYTEST_XDIST_WORKER", ""):  # parallel test processes, and the Celery workers they start, share no queue
        CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"] = env.text("PYTEST_XDIST_WORKER") + ":"
else:
    QUEUE_DIR = VAR_DIR / "queue"
    for folder in ("messages", "processed", "control"):
        (QUEUE_DIR / folder).mkdir(parents=True, exist_ok=True)
    CELERY_BROKER_URL = "filesystem://localhost"  # the folders are what counts; without a host name kombu warns
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(QUEUE_DIR / "messages"),
        "data_folder_out": str(QUEUE_DIR / "messages"),
        "processed_folder": str(QUEUE_DIR / "processed"),
        "control_folder": str(QUEUE_DIR / "control"),
        "polling_interval": 0.1,
    }
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_DEFAULT_QUEUE = "maintenance"
CELERY_TASK_PUBLISH_RETRY = False
CELERY_TIMEZONE = "UTC"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR_DIR / "celerybeat-schedule")
CELERY_BEAT_SCHEDULE = {
    "delete-old-identities": {"task": "annotators.delete_old_identities", "schedule": crontab(hour=3, minute=17)},
    "expire-places": {"task": "quotas.expire_places", "schedule": 300.0, "options": {"expires": 300}},
    "sweep-exports": {"task": "exports.sweep", "schedule": 60.0, "options": {"expires": 60}},
    "sweep-generation": {"task": "generation.sweep", "schedule": 10.0, "options": {"expires": 10}},
}

# --- Model endpoints ------------------------------------------------------------------------------------------------

# host:port pairs a model endpoint may have. Loopback and private addresses are refused unless they stand here.
OUTBOUND_ALLOWED = env.listing("OUTBOUND_ALLOWED", "" if PRODUCTION else "127.0.0.1:*")
OFFLINE_ENDPOINT_URL = env.url("OFFLINE_ENDPOINT_URL", ["http", "https"], "http://127.0.0.1:8765/v1")

# --- REST API -------------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["apps.api.authentication.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "apps.api.errors.exception_handler",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Polyphony API",
    "DESCRIPTION": "Comparisons of model responses by recruited annotators, with their demographic answers.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PUBLIC": True,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

# --- Logging --------------------------------------------------------------------------------------------------------

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.choice("LOG_LEVEL", ["DEBUG", "INFO", "WARNING", "ERROR"], "INFO")},
    # The client logs every request line with its URL at INFO; our attempt rows tell the same without query strings.
    "loggers": {
        # Refused requests (4xx) are answers, not faults: without this each would leave a traceback.
        "django.request": {"level": "ERROR"},
        "django.security": {"level": "ERROR"},
        "httpx2": {"level": "WARNING"},
        "httpcore2": {"level": "WARNING"},
        "openai": {"level": "WARNING"},
    },
}

# --- Refuse to start unsafe -----------------------------------------------------------------------------------------

if PRODUCTION:
    problems = []
    keys = [("SECRET_KEY", SECRET_KEY), ("PSEUDONYM_KEY", PSEUDONYM_KEY), ("PANEL_KEY", PANEL_KEY)]
    keys += [("IDENTITY_KEY", key.strip()) for key in IDENTITY_KEY.split(",")]
    for place, (name, value) in enumerate(keys):
        if len(value) < 50 or len(set(value)) < 10 or "change" in value.lower() or "insecure" in value.lower():
            problems.append(f"{name} is too short or looks like an example: give at least 50 random characters.")
        problems += [f"{name} must differ from {other}." for other, earlier in keys[:place] if value == earlier]
    if DEBUG:
        problems.append("DEBUG must be false.")
    if not ALLOWED_HOSTS or any("*" in host for host in ALLOWED_HOSTS):
        problems.append("ALLOWED_HOSTS must list the host names without a wildcard.")
    if "postgresql" not in DATABASES["default"]["ENGINE"]:
        problems.append("DATABASE_URL must be a PostgreSQL URL.")
    if DATABASES["default"].get("PASSWORD") in {"postgres", "password", "polyphony", "changeme"}:
        problems.append("DATABASE_URL holds a default password.")
    if any(entry.startswith("*") for entry in OUTBOUND_ALLOWED):
        problems.append("OUTBOUND_ALLOWED must name hosts, not a wildcard.")
    if problems:
        raise ImproperlyConfigured("Polyphony refuses to start: " + " ".join(problems))
