"""Django settings, all taken from the environment through ``beidou.base.config``."""

import os
from dataclasses import replace
from pathlib import Path

from beidou.base import config, logs
from beidou.unfold import UNFOLD as UNFOLD

CONFIG = config.load(os.environ)
BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR: Path = CONFIG.data_dir
ARTIFACT_FOLDERS: list[Path] = CONFIG.artifact_folders
PLAYBOOK_FOLDERS: list[Path] = CONFIG.playbook_folders
PLAYBOOK_MAX_BYTES: int = CONFIG.playbook_max_mib << 20
PLAYBOOK_ISOLATION: str = CONFIG.playbook_isolation
PLAYBOOK_HIDDEN: list[Path] = CONFIG.playbook_hidden

SECRET_KEY: str = CONFIG.secret_key
ENCRYPTION_KEYS: list[str] = CONFIG.encryption_keys
DEBUG = False
ALLOWED_HOSTS: list[str] = CONFIG.allowed_hosts
CSRF_TRUSTED_ORIGINS: list[str] = CONFIG.trusted_origins
TRUST_PROXY: bool = CONFIG.trust_proxy
ALLOW_INSECURE_TLS: bool = CONFIG.allow_insecure_tls
OPERATIONS_PER_CLUSTER: int = CONFIG.operations_per_cluster
OPERATIONS_PER_TEAM: int = CONFIG.operations_per_team
OPERATIONS_AT_ONCE: int = CONFIG.operations_at_once
ANSIBLE_FORKS: int = CONFIG.ansible_forks
HOST: str = CONFIG.host
PORT: int = CONFIG.port
METRICS_TOKEN: str | None = CONFIG.metrics_token
LABEL: str = CONFIG.label
PUBLIC_URL: str = CONFIG.public_url
# Not EMAIL_…: Django's own mail is not used, its settings would say nothing.
MAIL_SERVER = config.parse_email_url(CONFIG.email_url) if CONFIG.email_url else None
MAIL_FROM: str = CONFIG.email_from
WEBHOOK_ALLOW_HTTP: bool = CONFIG.webhook_allow_http
WEBHOOK_ALLOW_LOCAL: bool = CONFIG.webhook_allow_local
WEBHOOK_HOSTS: list[str] = CONFIG.webhook_hosts
NOTICE_DAYS: int = CONFIG.notice_days
EVENT_STORE_API_KEY: str = CONFIG.event_store_api_key or ""
EVENT_STORE_CA = str(CONFIG.event_store_ca or "")
EVENT_STORE: config.EventServer | None = CONFIG.event_store_url and replace(
    CONFIG.event_store_url,
    api_key=EVENT_STORE_API_KEY,
    ca=EVENT_STORE_CA,
    ilm_policy=CONFIG.event_ilm_policy or "",
)
EVENT_FILES: Path | None = CONFIG.event_files
EVENT_FILES_BYTES: int = CONFIG.event_files_mib << 20
EVENT_FILES_WAIT: bool = CONFIG.event_files_wait
EVENT_DAYS: int = CONFIG.event_days
EVENT_WARNING_DAYS: int = CONFIG.event_warning_days
EVENT_ARCHIVE: config.EventArchive | None = CONFIG.event_archive_url and replace(
    CONFIG.event_archive_url, ca=str(CONFIG.event_archive_ca or "")
)
EVENT_SPOOL_MIB: int = CONFIG.event_spool_mib

INSTALLED_APPS = [
    "beidou.overview",
    "notifications",
    "events",
    "operations",
    "machines",
    "clusters",
    "beidou.base",
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "unfold.contrib.import_export",
    "unfold.contrib.guardian",
    "unfold.contrib.simple_history",
    "beidou.overview.apps.PortalAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "guardian",
    "simple_history",
    "import_export",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "axes",
    "django_otp",
    "django_otp.plugins.otp_static",
    "django_q",
]

MIDDLEWARE = [
    "beidou.base.middleware.ContextMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "beidou.base.middleware.SecurityHeadersMiddleware",
    "beidou.base.middleware.StorableMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "beidou.base.middleware.ActorMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "beidou.urls"
ASGI_APPLICATION = "beidou.asgi.application"
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

DATABASES = {"default": config.parse_database_url(CONFIG.database_url)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- people -------------------------------------------------------------------------------
AUTH_USER_MODEL = "base.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
    "guardian.backends.ObjectPermissionBackend",
]
ANONYMOUS_USER_NAME = None  # guardian: rights belong to teams, never to nobody
GUARDIAN_MONKEY_PATCH_USER = False
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}", "OPTIONS": options}
    for name, options in [
        ("UserAttributeSimilarityValidator", {}),
        ("MinimumLengthValidator", {"min_length": 10}),
        ("CommonPasswordValidator", {}),
        ("NumericPasswordValidator", {}),
    ]
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
SESSION_COOKIE_AGE = CONFIG.session_hours * 3600
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = CONFIG.https
SESSION_COOKIE_NAME = "beidou_session"
CSRF_COOKIE_NAME = "beidou_csrf"
CSRF_FAILURE_VIEW = "beidou.base.error_pages.csrf_failure"
SECURE_SSL_REDIRECT = CONFIG.https
SECURE_HSTS_SECONDS = 31536000 if CONFIG.https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = CONFIG.https
SECURE_REFERRER_POLICY = "same-origin"
# Monitoring and the service manager ask on the loopback address without TLS.
SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz|metrics)$"]
if TRUST_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
X_FRAME_OPTIONS = "DENY"
AXES_FAILURE_LIMIT = CONFIG.login_attempts
AXES_COOLOFF_TIME = CONFIG.lockout_minutes / 60
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_CLIENT_IP_CALLABLE = "beidou.base.middleware.client_address"
AXES_VERBOSE = False
AXES_ENABLE_ADMIN = False  # lock-outs are in the audit trail, unlocking is an action on users
AXES_DISABLE_ACCESS_LOG = True
AXES_LOCKOUT_CALLABLE = "beidou.base.signin.locked_out"
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
OTP_TOTP_ISSUER = "Beidou"

# --- languages and time -------------------------------------------------------------------
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LOCALE_PATHS = [BASE_DIR / "locale"]
FORMAT_MODULE_PATH = "beidou.formats"
USE_I18N = True
USE_TZ = True
TIME_ZONE: str = CONFIG.time_zone

# --- files --------------------------------------------------------------------------------
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(DATA_DIR / "files")},
    },
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# --- API ----------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "beidou.base.api.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["beidou.base.api.rights.ObjectPermissions"],
    "DEFAULT_PAGINATION_CLASS": "beidou.base.api.pages.Pages",
    "DEFAULT_FILTER_BACKENDS": [
        "beidou.base.api.filters.Backend",
        "rest_framework.filters.SearchFilter",
        "beidou.base.api.filters.Ordering",
    ],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": [
        "beidou.base.api.parsers.JSONParser",
        "beidou.base.api.parsers.FormParser",
        "beidou.base.api.parsers.MultiPartParser",
    ],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "beidou.base.api.errors.exception_handler",
    "DEFAULT_THROTTLE_CLASSES": ["beidou.base.api.throttling.StrangerThrottle"],
    "DEFAULT_THROTTLE_RATES": {"anon": "60/min"},
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Beidou",
    "DESCRIPTION": "Operate fleets of Kubernetes clusters and the machines under them.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "SORT_OPERATION_PARAMETERS": False,
    "ENUM_NAME_OVERRIDES": {
        "MachineState": "machines.models.Machine.State",
        "OperationStatus": "operations.models.Operation.Status",
        "StepStatus": "operations.models.Step.Status",
        "MachineStepStatus": "operations.models.MachineStep.Status",
    },
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
}

# --- queue --------------------------------------------------------------------------------
# A step may run for hours.  ``retry`` must exceed the longest task several times, or the broker
# hands it out again while it runs; what is lost is found by the sweeper long before that.
STEP_TIMEOUT_MAX = 4 * 3600
Q_CLUSTER = {
    "name": "beidou",
    "workers": CONFIG.workers,
    "timeout": STEP_TIMEOUT_MAX + 300,
    "retry": 3 * (STEP_TIMEOUT_MAX + 300),
    "queue_limit": 1,
    "bulk": 1,
    "poll": 0.1,
    "save_limit": -1,
    "ack_failures": True,
    "max_attempts": 1,
    "catch_up": False,
    "recycle": 500,
    "ALT_CLUSTERS": {},
    "label": "Queue",
    **({"orm": "default"} if CONFIG.broker_url == "database" else {"redis": CONFIG.broker_url}),
}

LOGGING = logs.configure(level=CONFIG.log_level, shape=CONFIG.log_format)
