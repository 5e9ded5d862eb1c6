"""SHA256SUMS over the network: from the source itself, and in time."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from beidou.base.errors import InvalidInput, PermanentError, TemporaryError
from operations.drivers import artifacts

SUMS = "".join(f"{'a' * 64}  {name}\n" for name in artifacts.REQUIRED)
Answer = Callable[[socket.socket, threading.Event], None]


@contextmanager
def source(answer: Answer) -> Iterator[str]:
    """The address of a server that gives every caller this answer."""
    is_over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    caller, _address = server.accept()
                except OSError:
                    return
                with caller:
                    caller.recv(65536)
                    try:
                        answer(caller, is_over)
                    except OSError:
                        continue  # the portal hung up

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            is_over.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join(timeout=5)


def saying(text: str) -> Answer:
    return lambda caller, _is_over: caller.sendall(text.encode())


def dripping(begin: str) -> Answer:
    def drip(caller: socket.socket, is_over: threading.Event) -> None:
        caller.sendall(begin.encode())
        while not is_over.wait(0.02):
            caller.sendall(b"a")

    return drip


def test_checksums_are_read_over_the_network() -> None:
    with source(saying(f"HTTP/1.1 200 OK\r\nContent-Length: {len(SUMS)}\r\n\r\n{SUMS}")) as url:
        found = artifacts.for_worker(url, version="v1.36.3", folders=[])
    assert [one.url for one in found] == [
        f"{url}/kubernetes/v1.36.3/amd64/{name}" for name in artifacts.REQUIRED
    ]


def test_a_redirect_is_not_followed() -> None:
    was_asked = threading.Event()
    with (
        source(lambda _caller, _is_over: was_asked.set()) as elsewhere,
        source(saying(f"HTTP/1.1 302 Found\r\nLocation: {elsewhere}/x\r\n\r\n")) as url,
        pytest.raises(PermanentError, match="302.*Redirects are not followed"),
    ):
        artifacts.for_worker(url, version="v1.36.3", folders=[])
    assert not was_asked.is_set()


def test_what_is_not_there_is_missing_and_no_matter_of_waiting() -> None:
    with (
        source(saying("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")) as url,
        pytest.raises(PermanentError, match="404"),
    ):
        artifacts.for_worker(url, version="v1.36.3", folders=[])


@pytest.mark.parametrize("begin", ["", "HTTP/1.1 200 OK\r\nX: ", "HTTP/1.1 200 OK\r\n\r\n"])
def test_a_source_that_drips_is_given_up(begin: str) -> None:
    with (
        source(dripping(begin)) as url,
        pytest.raises(TemporaryError, match=r"not done within 0\.3 s"),
    ):
        artifacts._fetch(f"{url}/SHA256SUMS", seconds=0.3)


@pytest.mark.parametrize(
    "answer", ["", "nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na"]
)
def test_a_broken_answer_is_a_source_that_does_not_answer(answer: str) -> None:
    with source(saying(answer)) as url, pytest.raises(TemporaryError, match="did not answer"):
        artifacts.for_worker(url, version="v1.36.3", folders=[])


# --- folders of the portal's machine ---------------------------------------------------------


def test_a_folder_in_an_allowed_one_is_taken(tmp_path):
    artifacts.check_source(str(tmp_path / "k8s"), folders=[tmp_path])
    artifacts.check_source(str(tmp_path), folders=[tmp_path])


@pytest.mark.parametrize("path", ["/etc", "{allowed}/../secrets", "{allowed}-2", "/", "//etc"])
def test_any_other_folder_is_refused_and_the_allowed_ones_are_named(path, tmp_path):
    allowed = tmp_path / "allowed"
    with pytest.raises(InvalidInput, match="may not install from this folder") as caught:
        artifacts.check_source(path.format(allowed=allowed), folders=[allowed])
    assert str(allowed) in caught.value.message
    assert "artifact_source" in caught.value.fields


def test_a_link_that_leads_out_of_an_allowed_folder_is_refused(tmp_path):
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "k8s").symlink_to("/etc")
    (allowed / "loop").symlink_to(allowed / "loop")
    with pytest.raises(InvalidInput):
        artifacts.check_source(str(allowed / "k8s"), folders=[allowed])
    artifacts.check_source(str(allowed / "loop"), folders=[allowed])


def test_an_allowed_folder_may_be_a_link_itself(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "allowed").symlink_to(tmp_path / "disk")
    artifacts.check_source(str(tmp_path / "allowed/k8s"), folders=[tmp_path / "allowed"])


def test_a_folder_that_is_allowed_no_more_is_not_read(tmp_path):
    with pytest.raises(InvalidInput):
        artifacts.for_worker(str(tmp_path), version="v1.36.3", folders=[tmp_path / "other"])
