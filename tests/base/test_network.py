"""Failures of connections in words that people use."""

import errno
import socket
from http.client import RemoteDisconnected

import pytest
from django.utils import translation

from beidou.base.network import in_words


def numbered(number, text="x"):
    return OSError(number, text)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "it refused"),
        (numbered(errno.EHOSTUNREACH, "Connect call failed ('10.9.0.17', 22)"), "no route leads"),
        (numbered(errno.ENETUNREACH), "no route leads there"),
        (numbered(errno.ETIMEDOUT), "it did not answer in time"),
        (TimeoutError(), "it did not answer in time"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "it broke off"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "it broke off the connection"),
        (RemoteDisconnected("Remote end closed connection without response"), "it broke off"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "its name is not known"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed, [Errno 101] x"), "refused"),
    ],
)
def test_the_usual_failures_are_told_without_numbers(error, words):
    said = in_words(error)
    assert words in said
    assert "Errno" not in said


def test_what_is_unusual_keeps_its_words():
    assert in_words(OSError(errno.ENOSPC, "No space left on device")) == "No space left on device"
    assert in_words(ValueError("no such thing")) == "no such thing"
    assert in_words(RuntimeError()) == "RuntimeError"


def test_they_are_told_in_the_language_of_the_reader():
    with translation.override("zh-hans"):
        assert in_words(ConnectionRefusedError(errno.ECONNREFUSED, "x")) == "对方拒绝了连接"
