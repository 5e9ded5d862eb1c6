"""The configuration: environment variables ``BEIDOU_*``, typed and checked once at start.

Every variable is one ``Variable`` in ``VARIABLES``; ``docs/configuration.md`` is generated from the
same table.  All mistakes are reported together, one sentence each, because whoever sets up a
portal wants to mend them in one go.  Keys that are not given are generated and kept in the data
folder, readable by its owner alone.
"""

import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    return value


def _flag(value: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True}
    words |= {"0": False, "false": False, "no": False, "off": False}
    try:
        return words[value.strip().lower()]
    except KeyError:
        raise ValueError(f"is {value!r}; say yes or no") from None


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        try:
            number = int(value)
        except ValueError:
            raise ValueError(f"is {value!r}, not a whole number") from None
        if not low <= number <= high:
            raise ValueError(f"is {number}; allowed are {low} to {high}")
        return number

    return parse


def _label(value: str) -> str:
    if len(value) > 24:
        raise ValueError(f"has {len(value)} characters; at most 24 are allowed")
    return value.strip()


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(f"is {value!r}; allowed are {', '.join(choices)}")
        return value

    return parse


def _names(value: str) -> list[str]:
    return [name.strip() for name in value.split(",") if name.strip()]


def _folder(value: str) -> Path:
    return Path(_text(value)).expanduser().resolve()


def _folders(value: str) -> list[Path]:
    folders = [Path(name) for name in _names(value)]
    for position, folder in enumerate(folders, start=1):
        if not folder.is_absolute():
            raise ValueError(f"has a folder at position {position} that does not begin with /")
        if folder.resolve() == Path("/"):
            raise ValueError(f"has / at position {position}, which is all of the machine")
    return [folder.resolve() for folder in folders]


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"is {value!r}, which is no time zone of the IANA list") from None
    return value


def _secret_key(value: str) -> str:
    if len(value) < 50:
        raise ValueError(f"has {len(value)} characters; at least 50 random ones are needed")
    return value


def _fernet_keys(value: str) -> list[str]:
    keys = _names(value)
    for position, key in enumerate(keys, start=1):
        try:
            Fernet(key.encode())
        except ValueError:
            raise ValueError(
                f"has a key at position {position} that is not 32 bytes in URL-safe base64; "
                "make one with `manage.py new_encryption_key`"
            ) from None
    if not keys:
        raise ValueError("is empty")
    return keys


_ORIGIN = re.compile(r"https?://[^\s/?#@]+", re.IGNORECASE)


def _origins(value: str) -> list[str]:
    origins = _names(value)
    for position, origin in enumerate(origins, start=1):
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"has an entry at position {position} that is no origin; write http:// or "
                "https:// and a host, without a path, for example https://portal.example.com"
            )
    return origins


def _split(value: str) -> SplitResult:
    """The parts of a URL.  Python's own errors quote it, and with it the password inside."""
    try:
        url = urlsplit(value)
        _ = url.port  # checked when it is read
    except ValueError:
        raise ValueError(
            "is no valid URL; write special characters of a password percent-encoded, "
            "for example %40 for @"
        ) from None
    return url


def parse_database_url(value: str) -> dict[str, Any]:
    """``sqlite:////folder/file`` or ``postgresql://user:pw@host:port/name`` for Django.

    Sentences about a wrong one never quote it: it may hold a password.
    """
    url = _split(value)
    if url.scheme == "sqlite":
        path = unquote(url.path)
        if url.netloc or len(path) < 2:
            raise ValueError("must look like sqlite:////absolute/path/file.sqlite3")
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": path,
            # Web, workers and collector write at once: WAL lets readers go on, IMMEDIATE takes the
            # write lock at BEGIN so that no transaction dies with "database is locked" half way.
            "OPTIONS": {
                "timeout": 30,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;",
            },
        }
    if url.scheme in ("postgresql", "postgres"):
        if not url.path.strip("/"):
            raise ValueError("names no database; write postgresql://user:password@host:5432/name")
        query = dict(item.split("=", 1) for item in url.query.split("&") if "=" in item)
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(url.path.strip("/")),
            "USER": unquote(url.username or ""),
            "PASSWORD": unquote(url.password or ""),
            "HOST": unquote(query.pop("host", url.hostname or "")),
            "PORT": str(url.port or ""),
            "CONN_MAX_AGE": 600,
            "CONN_HEALTH_CHECKS": True,
            "OPTIONS": query,
        }
    raise ValueError("begins with neither sqlite:/// nor postgresql://")


def parse_email_url(value: str) -> dict[str, Any]:
    """``smtp://user:pw@host:587`` (STARTTLS), ``smtps://…:465`` (TLS) or ``smtp+plain://…:25``.

    Sentences about a wrong one never quote it: it may hold a password.
    """
    url = _split(value)
    ports = {"smtp": 587, "smtps": 465, "smtp+plain": 25}
    if url.scheme not in ports or not url.hostname:
        raise ValueError(
            "must look like smtp://user:password@host:587, smtps://user:password@host:465 "
            "or smtp+plain://host:25"
        )
    return {
        "host": url.hostname,
        "port": url.port or ports[url.scheme],
        "user": unquote(url.username or ""),
        "password": unquote(url.password or ""),
        "security": {"smtp": "starttls", "smtps": "tls", "smtp+plain": "none"}[url.scheme],
    }


def _email_url(value: str) -> str:
    parse_email_url(value)
    return value


_MAILBOX = re.compile(r"[^\s@<>,;:\"()\[\]\\]+@[^\s@<>,;:\"()\[\]\\]+")


def _mailbox(value: str) -> str:
    if not _MAILBOX.fullmatch(value.strip()):
        raise ValueError(f"is {value!r}, which is no address such as beidou@example.com")
    return value.strip()


def _public_url(value: str) -> str:
    if not _ORIGIN.fullmatch(value.rstrip("/")):
        raise ValueError(
            "is no origin; write http:// or https:// and a host, without a path, for example "
            "https://portal.example.com"
        )
    return value.rstrip("/")


def _database_url(value: str) -> str:
    parse_database_url(value)
    return value


@dataclass(frozen=True)
class EventServer:
    """An Elasticsearch or OpenSearch that keeps events."""

    product: str
    nodes: tuple[str, ...]
    prefix: str
    user: str = ""
    password: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)
    ca: str = ""
    ilm_policy: str = ""


_EVENT_STORE = re.compile(r"(elasticsearch|opensearch)\+(https?)")
_PREFIX = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")


def parse_event_store_url(value: str) -> EventServer | None:
    """``elasticsearch+https://user:pw@host:9200,host:9200/prefix``, likewise ``opensearch+…``; None
    for ``database``.

    Sentences about a wrong one never quote it: it may hold a password.
    """
    if value == "database":
        return None
    scheme, _, rest = value.partition("://")
    kind = _EVENT_STORE.fullmatch(scheme)
    if kind is None:
        raise ValueError(
            "must be `database` or look like elasticsearch+https://user:password@host:9200/prefix "
            "(opensearch, +http)"
        )
    place, _, prefix = rest.partition("/")
    person, _, hosts = place.rpartition("@")
    user, _, password = person.partition(":")
    nodes = [_split(f"{kind[2]}://{host}") for host in _names(hosts)]
    if not nodes or not all(node.hostname for node in nodes):
        raise ValueError("names no host, or one that is none")
    prefix = prefix or "beidou"
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(
            "has a prefix of its indices that is none: small letters, digits, - and _, at most 41"
        )
    return EventServer(
        product=kind[1],
        nodes=tuple(
            f"{node.scheme}://{_bracketed(node.hostname)}:{node.port or 9200}" for node in nodes
        ),
        prefix=prefix,
        user=unquote(user),
        password=unquote(password),
    )


def _policy(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.@-][A-Za-z0-9._@-]{0,199}", value):
        raise ValueError("is no name of a policy: letters, digits and . _ @ - only")
    return value


def _bracketed(host: str | None) -> str:
    return f"[{host}]" if host and ":" in host else str(host)


@dataclass(frozen=True)
class EventArchive:
    """Where segments of events go: a folder, or a bucket of an S3 server."""

    folder: Path | None = None
    endpoint: str = ""
    bucket: str = ""
    prefix: str = ""
    region: str = ""
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    ca: str = ""

    @property
    def label(self) -> str:
        """What may be said of it."""
        if self.folder is not None:
            return str(self.folder)
        return "/".join(filter(None, (self.endpoint, self.bucket, self.prefix)))


_S3_SCHEMES = {"s3": "https", "s3+https": "https", "s3+http": "http"}
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def parse_event_archive_url(value: str) -> EventArchive:
    """``file:///folder`` or ``s3://KEY:SECRET@host:port/bucket/prefix?region=…``.

    Sentences about a wrong one never quote it: it holds a secret.
    """
    parts = _split(value)
    if parts.scheme == "file":
        folder = unquote(parts.path)
        if parts.netloc or not folder.strip("/"):
            raise ValueError("must name a folder as file:///srv/events")
        return EventArchive(folder=Path(folder))
    if parts.scheme not in _S3_SCHEMES:
        raise ValueError(
            "must be file:///folder or look like s3://KEY:SECRET@host:9000/bucket/prefix (s3+http)"
        )
    if not parts.hostname or not parts.username or not parts.password:
        raise ValueError("names no host, or not both key and secret (percent-encoded)")
    bucket, _, prefix = parts.path.lstrip("/").partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError("names no bucket behind the host")
    asked = parse_qs(parts.query)
    if set(asked) - {"region"}:
        raise ValueError("has an option that is none; there is region")
    place = _bracketed(parts.hostname) + (f":{parts.port}" if parts.port else "")
    return EventArchive(
        endpoint=f"{_S3_SCHEMES[parts.scheme]}://{place}",
        bucket=bucket,
        prefix=unquote(prefix).strip("/"),
        region=asked.get("region", ["us-east-1"])[0],
        access_key=unquote(parts.username),
        secret_key=unquote(parts.password),
    )


def _file(value: str) -> Path:
    path = Path(_text(value)).expanduser().resolve()
    if not path.is_file():
        raise ValueError(f"is {path}, which is no file")
    return path


def _broker_url(value: str) -> str:
    if value == "database" or _split(value).scheme in ("redis", "rediss", "unix"):
        return value
    raise ValueError("is neither `database` nor an address such as redis://host:6379/0")


@dataclass(frozen=True)
class Variable:
    """One environment variable; ``default`` is text as it would stand in the environment."""

    name: str
    parse: Callable[[str], Any]
    default: str | None
    meaning: str

    @property
    def environment(self) -> str:
        return f"BEIDOU_{self.name}"


VARIABLES = (
    Variable(
        "DATA_DIR", _folder, "data", "Folder for the embedded database, keys and run folders."
    ),
    Variable(
        "DATABASE_URL",
        _database_url,
        None,
        "`sqlite:////path/file` or `postgresql://user:password@host:5432/name`. "
        "Default: a SQLite file in the data folder.",
    ),
    Variable(
        "BROKER_URL",
        _broker_url,
        "database",
        "Where the queue of the workers lives: `database`, or `redis://host:6379/0`.",
    ),
    Variable(
        "SECRET_KEY",
        _secret_key,
        None,
        "Signs sessions. Default: generated once, kept in the data folder.",
    ),
    Variable(
        "ENCRYPTION_KEYS",
        _fernet_keys,
        None,
        "Keys for stored credentials, comma separated; the first encrypts, all decrypt. "
        "Default: generated once, kept in the data folder.",
    ),
    Variable("HOST", _text, "127.0.0.1", "Address the web process listens on."),
    Variable("PORT", _integer(1, 65535), "8000", "Port the web process listens on."),
    Variable(
        "ALLOWED_HOSTS",
        _names,
        "127.0.0.1,localhost,[::1]",
        "Host names under which the portal may be asked for.",
    ),
    Variable(
        "TRUSTED_ORIGINS",
        _origins,
        "",
        "Origins (https://portal.example.com) from which forms may be sent, when a proxy ends TLS.",
    ),
    Variable(
        "HTTPS",
        _flag,
        "no",
        "The portal is reached through https: secure cookies, redirects and HSTS.",
    ),
    Variable(
        "TRUST_PROXY",
        _flag,
        "no",
        "A reverse proxy in front sets X-Forwarded-For and X-Forwarded-Proto.",
    ),
    Variable("WORKERS", _integer(1, 64), "2", "Worker processes of one `qcluster`."),
    Variable(
        "OPERATIONS_PER_CLUSTER",
        _integer(1, 50),
        "3",
        "Operations that may change one cluster at the same time; more wait.",
    ),
    Variable(
        "OPERATIONS_PER_TEAM",
        _integer(1, 200),
        "10",
        "Operations of one team that may run at the same time; more wait. A team may have a limit "
        "of its own.",
    ),
    Variable(
        "OPERATIONS_AT_ONCE",
        _integer(1, 500),
        "20",
        "Operations that may run at the same time, on all clusters and of all teams; more wait.",
    ),
    Variable("ANSIBLE_FORKS", _integer(1, 200), "20", "Machines one playbook works on at once."),
    Variable(
        "ARTIFACT_FOLDERS",
        _folders,
        "",
        "Folders of the workers' machine, comma separated, in or below which artifact sources may "
        "lie; http(s) sources need none. Empty: `artifacts` in the data folder.",
    ),
    Variable(
        "PLAYBOOK_FOLDERS",
        _folders,
        "",
        "Folders of the workers' machine, comma separated, in or below which sources of playbooks "
        "may lie (folders, and repositories by file://). Empty: `playbooks` in the data folder.",
    ),
    Variable(
        "PLAYBOOK_MAX_MIB",
        _integer(1, 256),
        "32",
        "Largest content of a source of playbooks; it is kept in the database.",
    ),
    Variable(
        "PLAYBOOK_ISOLATION",
        _choice("required", "preferred"),
        "required",
        "A site's playbooks run where they cannot see the data folder and what else "
        "BEIDOU_PLAYBOOK_HIDDEN names. `preferred`: they run all the same where the system cannot "
        "hide it.",
    ),
    Variable(
        "PLAYBOOK_HIDDEN",
        _folders,
        "/etc/beidou",
        "Files and folders of the workers' machine, comma separated, that a site's playbooks must "
        "not see, beside the data folder and the database's own.",
    ),
    Variable(
        "ALLOW_INSECURE_TLS",
        _flag,
        "no",
        "Accept kubeconfigs with insecure-skip-tls-verify; such clusters are marked in red.",
    ),
    Variable("SESSION_HOURS", _integer(1, 720), "12", "Hours after which a session ends."),
    Variable(
        "LOGIN_ATTEMPTS",
        _integer(2, 100),
        "5",
        "Failed sign-ins of one name from one address before it is locked out.",
    ),
    Variable("LOCKOUT_MINUTES", _integer(1, 1440), "15", "How long a lock-out lasts."),
    Variable(
        "METRICS_TOKEN",
        _text,
        None,
        "Bearer token for /metrics. Default: /metrics answers loopback only.",
    ),
    Variable(
        "LABEL", _label, "", "Short name of this portal on every page, for example `production`."
    ),
    Variable("TIME_ZONE", _zone, "UTC", "Time zone of the pages."),
    Variable(
        "PUBLIC_URL",
        _public_url,
        None,
        "Origin under which people reach the portal, for links in messages "
        "(https://portal.example.com). Default: http:// with host and port of the web process.",
    ),
    Variable(
        "EMAIL_URL",
        _email_url,
        None,
        "Mail server for notifications: `smtp://user:password@host:587` (STARTTLS), "
        "`smtps://user:password@host:465`, or `smtp+plain://host:25`. Default: no e-mail is sent.",
    ),
    Variable("EMAIL_FROM", _mailbox, "beidou@localhost", "Sender of the e-mail."),
    Variable(
        "WEBHOOK_ALLOW_HTTP",
        _flag,
        "no",
        "Webhooks may be http: whoever listens on the way can read them.",
    ),
    Variable(
        "WEBHOOK_ALLOW_LOCAL",
        _flag,
        "no",
        "Webhooks may lead to loopback and link-local addresses: to services of the portal's own "
        "machine.",
    ),
    Variable(
        "WEBHOOK_HOSTS",
        _names,
        "",
        "The only hosts to which webhooks may lead, comma separated; `*.example.com` is every host "
        "below. Empty: all.",
    ),
    Variable(
        "NOTICE_DAYS",
        _integer(1, 3650),
        "90",
        "Days for which notices and the log of their messages are kept.",
    ),
    Variable(
        "EVENT_STORE_URL",
        parse_event_store_url,
        "database",
        "Where Kubernetes events are kept: `database`, or "
        "`elasticsearch+https://user:password@host:9200/prefix` (several hosts comma separated; "
        "`opensearch+https`, `+http`). The prefix of the indices is `beidou` where none is given.",
    ),
    Variable(
        "EVENT_STORE_API_KEY",
        _text,
        None,
        "API key for the event store (id and key in base64), instead of user and password.",
    ),
    Variable(
        "EVENT_STORE_CA",
        _file,
        None,
        "File with the certificate authority of the event store. Default: those of the system.",
    ),
    Variable(
        "EVENT_ILM_POLICY",
        _policy,
        None,
        "Name of an ILM policy of Elasticsearch, which new indices of events then follow. Default: "
        "none; the portal deletes days by itself in any case.",
    ),
    Variable(
        "EVENT_FILES",
        _folder,
        None,
        "Folder into which collectors write events, for a log agent to ship them to the event "
        "store; the portal then reads from BEIDOU_EVENT_STORE_URL and writes nothing to it.",
    ),
    Variable(
        "EVENT_FILES_MIB",
        _integer(128, 1024 * 1024),
        "4096",
        "MiB of the folder of event files; beyond them the oldest files go, shipped or not.",
    ),
    Variable(
        "EVENT_FILES_WAIT",
        _flag,
        "no",
        "The log agent removes the files that it has shipped: none goes by itself, and while the "
        "folder is full events wait in the spool.",
    ),
    Variable("EVENT_DAYS", _integer(1, 3650), "30", "Days for which Kubernetes events are kept."),
    Variable(
        "EVENT_WARNING_DAYS",
        _integer(1, 3650),
        "90",
        "Days for which Kubernetes events of type Warning are kept.",
    ),
    Variable(
        "EVENT_ARCHIVE_URL",
        parse_event_archive_url,
        None,
        "Where events go as compressed files before they are deleted: `file:///folder` (which must "
        "be there), or `s3://KEY:SECRET@host:port/bucket/prefix` (`s3+http` without TLS, "
        "`?region=` where it is not us-east-1). Default: they are deleted.",
    ),
    Variable(
        "EVENT_ARCHIVE_CA",
        _file,
        None,
        "File with the certificate authority of the archive. Default: those of public servers.",
    ),
    Variable(
        "EVENT_SPOOL_MIB",
        _integer(16, 1024 * 1024),
        "4096",
        "MiB on disk, in each collector, for events that the event store has not taken yet.",
    ),
    Variable("LOG_FORMAT", _choice("text", "json"), "text", "Shape of the log lines."),
    Variable(
        "LOG_LEVEL", _choice("DEBUG", "INFO", "WARNING", "ERROR"), "INFO", "Least level logged."
    ),
)


class Config:
    """The values of all variables as attributes in lower case; see ``VARIABLES`` for meanings."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_values"][name]
        except KeyError:
            raise AttributeError(name) from None


def load(environ: Mapping[str, str]) -> Config:
    """Read all variables; raises ``ImproperlyConfigured`` with every mistake in it."""
    values: dict[str, Any] = {}
    mistakes: list[str] = []
    for variable in VARIABLES:
        text = environ.get(variable.environment, variable.default)
        if text is None:
            values[variable.name.lower()] = None
            continue
        try:
            values[variable.name.lower()] = variable.parse(text)
        except ValueError as error:
            mistakes.append(f"{variable.environment} {error}.")
    known = {variable.environment for variable in VARIABLES}
    mistakes += [
        f"{name} is no setting of Beidou; see docs/configuration.md."
        for name in sorted(environ)
        if name.startswith("BEIDOU_") and name not in known and not name.startswith("BEIDOU_LAB")
    ]
    store = values.get("event_store_url")
    if values.get("event_store_api_key") and store and store.product == "opensearch":
        mistakes.append(
            "BEIDOU_EVENT_STORE_API_KEY is for Elasticsearch; OpenSearch knows user and password "
            "alone."
        )
    if values.get("event_ilm_policy") and (store is None or store.product != "elasticsearch"):
        mistakes.append(
            "BEIDOU_EVENT_ILM_POLICY is for Elasticsearch alone; a policy of OpenSearch names the "
            "indices itself (ism_template)."
        )
    if values.get("event_files") and values.get("event_store_url") is None:
        mistakes.append(
            "BEIDOU_EVENT_FILES needs a BEIDOU_EVENT_STORE_URL from which events are read."
        )
    if mistakes:
        raise ImproperlyConfigured("\n".join(["The configuration has mistakes:", *mistakes]))
    data_dir: Path = values["data_dir"]
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ImproperlyConfigured(
            f"BEIDOU_DATA_DIR is {data_dir}, which cannot be made: {error.strerror}."
        ) from error
    values["database_url"] = values["database_url"] or f"sqlite:///{data_dir}/beidou.sqlite3"
    values["artifact_folders"] = values["artifact_folders"] or [data_dir / "artifacts"]
    values["playbook_folders"] = values["playbook_folders"] or [data_dir / "playbooks"]
    values["secret_key"] = values["secret_key"] or kept_secret(
        data_dir / "secret_key", lambda: secrets.token_urlsafe(64)
    )
    values["encryption_keys"] = values["encryption_keys"] or _fernet_keys(
        kept_secret(data_dir / "encryption_keys", lambda: Fernet.generate_key().decode())
    )
    values["public_url"] = values["public_url"] or f"http://{values['host']}:{values['port']}"
    return Config(values)


def kept_secret(path: Path, make: Callable[[], str]) -> str:
    """The text of ``path``; made and written first (0600) when the file does not exist.

    Several processes may start at once: the file is linked into place whole, and whoever comes
    second reads what the first one wrote.
    """
    if not path.exists():
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(make())
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass  # another process was first; its key counts
        finally:
            temporary.unlink()
    return path.read_text().strip()
