"""Can this host reach another one? Answers in words, never with an exception."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
import time
import urllib.parse

from ansible.module_utils.beidou.checks import Check
from ansible.module_utils.beidou.sentences import Sentence

_WORDS = {
    errno.EHOSTUNREACH: Sentence("no route leads there"),
    errno.ENETUNREACH: Sentence("no route leads there"),
    errno.ECONNRESET: Sentence("it broke off the connection"),
    errno.EPIPE: Sentence("it broke off the connection"),
}


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """``host:port`` or ``[address]:port``; ValueError when there is no port."""
    parts = urllib.parse.urlsplit(f"//{endpoint}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:  # the port is no number, or too large
        host, port = None, None
    if not host or not port:
        raise ValueError(f"{endpoint!r} is not host:port")
    return host, port


def check_tcp(name: str, endpoint: str, timeout: float) -> Check:
    """Open a TCP connection and close it."""
    wanted = Sentence("a TCP connection to %(endpoint)s", endpoint=endpoint)
    try:
        host, port = split_endpoint(endpoint)
    except ValueError:
        found = Sentence("'%(endpoint)s' is not host:port", endpoint=endpoint)
        return Check(name, False, found, wanted, Sentence("correct the address of the API server"))
    start = time.monotonic()
    try:
        with socket.create_connection((host, port), timeout):
            took = time.monotonic() - start
    except OSError as error:
        advice = Sentence("check routes and firewalls")
        return Check(name, False, describe(error, timeout), wanted, advice)
    return Check(name, True, Sentence("connected in %(ms)d ms", ms=round(took * 1000)), wanted)


def check_url(url: str, timeout: float) -> Check:
    """Ask for the head of an http(s) URL; certificates are verified."""
    name, wanted = f"artifact:{url}", Sentence("an HTTP answer below 400")
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        found = Sentence("not an http(s) URL")
        return Check(name, False, found, wanted, Sentence("correct the artifact source"))
    try:
        status = _head(parts, timeout)
    except ssl.SSLCertVerificationError as error:
        found = Sentence("certificate not trusted: %(why)s", why=error.verify_message)
        advice = Sentence("install the authority's certificate on the host")
        return Check(name, False, found, wanted, advice)
    except (OSError, http.client.HTTPException) as error:
        found = describe(error, timeout)
        return Check(name, False, found, wanted, Sentence("check the source, routes and firewalls"))
    advice = Sentence("check that the source has the file")
    return Check(name, status < 400, f"HTTP {status}", wanted, advice)


def _head(parts: urllib.parse.SplitResult, timeout: float) -> int:
    host, port = parts.hostname or "", parts.port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("HEAD", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        return connection.getresponse().status
    finally:
        connection.close()


def describe(error: Exception, timeout: float) -> str:
    if isinstance(error, (TimeoutError, socket.timeout)):
        return Sentence("no answer within %(limit)s s", limit=f"{timeout:g}")
    if isinstance(error, ConnectionRefusedError):
        return Sentence("connection refused")
    if isinstance(error, socket.gaierror):
        return Sentence("name cannot be resolved: %(why)s", why=error.strerror)
    if isinstance(error, OSError) and error.errno in _WORDS:
        return _WORDS[error.errno]
    return f"{error.strerror if isinstance(error, OSError) and error.strerror else error}"
