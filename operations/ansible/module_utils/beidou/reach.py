"""Can this host reach another one? Answers in words, never with an exception."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
import urllib.parse

from ansible.module_utils.beidou.checks import Check


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
    wanted = f"a TCP connection to {endpoint}"
    try:
        host, port = split_endpoint(endpoint)
    except ValueError as error:
        return Check(name, False, str(error), wanted, "correct the address of the API server")
    start = time.monotonic()
    try:
        with socket.create_connection((host, port), timeout):
            took = time.monotonic() - start
    except OSError as error:
        return Check(name, False, describe(error, timeout), wanted, "check routes and firewalls")
    return Check(name, True, f"connected in {took * 1000:.0f} ms", wanted)


def check_url(url: str, timeout: float) -> Check:
    """Ask for the head of an http(s) URL; certificates are verified."""
    name, wanted = f"artifact:{url}", "an HTTP answer below 400"
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        return Check(name, False, "not an http(s) URL", wanted, "correct the artifact source")
    try:
        status = _head(parts, timeout)
    except ssl.SSLCertVerificationError as error:
        found = f"certificate not trusted: {error.verify_message}"
        return Check(name, False, found, wanted, "install the authority's certificate on the host")
    except (OSError, http.client.HTTPException) as error:
        found = describe(error, timeout)
        return Check(name, False, found, wanted, "check the source, routes and firewalls")
    return Check(name, status < 400, f"HTTP {status}", wanted, "check that the source has the file")


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
        return f"no answer within {timeout:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, socket.gaierror):
        return f"name cannot be resolved: {error.strerror}"
    return f"{error.strerror if isinstance(error, OSError) and error.strerror else error}"
