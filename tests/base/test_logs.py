"""What the log says of what went wrong."""

import logging

import pytest
from django.core.exceptions import PermissionDenied

from beidou.base import logs


def line_about(error: Exception) -> str:
    """What the portal's formatter makes of Django's record of a request that ended so."""
    formatter = logs.configure(level="INFO", shape="json")["formatters"]["line"]
    try:
        raise error
    except type(error) as raised:
        trouble = (type(raised), raised, raised.__traceback__)
        record = logging.LogRecord(
            "django.request", logging.WARNING, __file__, 1, "Forbidden: /x", None, trouble
        )
    kind = formatter.pop("()")
    return kind(**formatter).format(record)


def test_a_refusal_is_no_crash():
    line = line_about(PermissionDenied("no"))
    assert "Forbidden: /x" in line
    assert "Traceback" not in line


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("y")])
def test_a_mistake_of_ours_is_logged_with_its_traceback(error):
    assert "Traceback" in line_about(error)


def test_control_characters_of_an_address_are_written_out():
    formatter = logs.configure(level="INFO", shape="text")["formatters"]["line"]
    record = logging.LogRecord("x", logging.WARNING, __file__, 1, "/nix/\x1b[31m\0/", None, None)
    kind = formatter.pop("()")
    line = kind(**formatter).format(record)
    assert "/nix/\\x1b[31m\\x00/" in line
