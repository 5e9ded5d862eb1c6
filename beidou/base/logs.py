"""Structured logs: one line per event with the request's, operation's and user's ids."""

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied

from beidou.base.sentences import Sentence


def _in_english(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Whoever reads the log is not who asked: sentences in one language, to be searched for."""
    return {
        key: value.english if isinstance(value, Sentence) else value for key, value in event.items()
    }


def _without_traceback_of_refusals(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> Mapping[str, Any]:
    """That somebody may not do something is no crash: the request's own line says who and what."""
    trouble = event.get("exc_info")
    if isinstance(trouble, tuple) and isinstance(trouble[1], PermissionDenied):
        del event["exc_info"]
    return event


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _without_control_characters(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> Mapping[str, Any]:
    """Anybody writes addresses into the log, which must not move the cursor of who reads it."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", value)
    return event


_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    _in_english,
    _without_traceback_of_refusals,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
    _without_control_characters,
]


def configure(*, level: str, shape: str) -> dict[str, Any]:
    """Configure structlog and give the dictionary for Django's ``LOGGING``."""
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if shape == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processor": renderer,
                "foreign_pre_chain": _SHARED,
            },
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "django.server": {"handlers": ["stderr"], "level": level, "propagate": False},
            "django": {"handlers": ["stderr"], "level": level, "propagate": False},
            "uvicorn.access": {"level": "WARNING"},
            "django-q": {"level": "WARNING"},  # else several lines for every tick of the clock
            "asyncssh": {"level": "WARNING"},
            "axes": {"level": "WARNING"},
        },
    }
