"""The script that fetches and installs artifacts, run here against a real HTTP server."""

import contextlib
import errno
import hashlib
import http.server
import io
import json
import tarfile
import threading
from pathlib import Path

import pytest

from tests.operations.ansible.host_code import load_file

CONTENT = b"#!/bin/sh\necho kubelet\n"


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The script with its folders below ``tmp_path`` and without pauses between tries."""
    module = load_file("roles/artifacts/files/artifacts.py")
    state = tmp_path / "state"
    monkeypatch.setattr(module, "STATE", str(state))
    for name in ("incoming", "images", "installed", "placed"):
        constant = "STAGED" if name == "images" else name.upper()
        monkeypatch.setattr(module, constant, str(state / name))
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0)
    return module


class Source(http.server.ThreadingHTTPServer):
    """A web server on a folder that answers 503 as often as ``failures`` says, first of all."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.failures = 0
        self.cuts: list[bytes] = []
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.SimpleHTTPRequestHandler):
    server: Source

    def do_GET(self):
        self.server.requests.append(self.path)
        if self.server.failures > 0:
            self.server.failures -= 1
            self.send_error(503)
        elif self.server.cuts:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n" + self.server.cuts.pop())
        else:
            super().do_GET()

    def translate_path(self, path):
        return str(self.server.folder / path.lstrip("/"))

    def log_message(self, *args):
        pass


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    server = Source(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def request_for(tmp_path, source):
    """A request for one artifact with the given content."""

    def make(name, content=CONTENT, **changes):
        (source.folder / name).write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        artifact = {"name": name, "sha256": sha256, "url": f"{source.url}/{name}", **changes}
        folders = {k: str(tmp_path / k) for k in ("bin_dir", "prefix_dir", "cni_bin_dir")}
        return json.dumps({"artifacts": [artifact], **folders})

    return make


def run(script, verb, request=""):
    """Exit code, last line as JSON (or None), errors."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("sys.stdin", io.StringIO(request))
        code = script.main(verb)
    lines = out.getvalue().splitlines()
    return code, json.loads(lines[-1]) if code == 0 else None, err.getvalue()


def make_archive(**files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def make_link_archive(name, target):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = tarfile.SYMTYPE, target
        archive.addfile(member)
    return data.getvalue()


def test_a_program_is_fetched_verified_and_made_executable(script, request_for, tmp_path):
    assert run(script, "install", request_for("kubelet")) == (0, {"changed": ["kubelet"]}, "")
    program = tmp_path / "bin_dir" / "kubelet"
    assert program.read_bytes() == CONTENT
    assert program.stat().st_mode & 0o777 == 0o755


def test_a_second_run_fetches_nothing(script, request_for, source):
    request = request_for("kubelet")
    run(script, "install", request)
    source.requests.clear()
    assert run(script, "install", request) == (0, {"changed": []}, "")
    assert source.requests == []


def test_a_wrong_checksum_is_refused_and_nothing_is_left(script, request_for, tmp_path):
    code, _, error = run(script, "install", request_for("kubelet", sha256="0" * 64))
    assert code == 1
    assert "has the checksum" in error
    assert "it is not installed" in error
    assert list((tmp_path / "bin_dir").iterdir()) == []


def test_a_program_in_place_survives_a_refused_successor(script, request_for, tmp_path):
    run(script, "install", request_for("kubelet"))
    run(script, "install", request_for("kubelet", b"new", sha256="0" * 64))
    assert (tmp_path / "bin_dir" / "kubelet").read_bytes() == CONTENT


def test_a_source_that_fails_for_a_while_is_asked_again(script, request_for, source):
    source.failures = 2
    assert run(script, "install", request_for("kubelet"))[0] == 0
    assert len(source.requests) == 3


def test_a_source_that_keeps_failing_is_given_up_with_its_answer(script, request_for, source):
    source.failures = 99
    _, _, error = run(script, "install", request_for("kubelet"))
    assert error == f"{source.url}/kubelet cannot be fetched: HTTP 503.\n"


BREAKS_OFF = {
    "told length": b"Content-Length: 1000\r\n\r\n" + CONTENT[:9],
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + CONTENT[:9],
}


@pytest.mark.parametrize("how", BREAKS_OFF)
def test_a_download_that_breaks_off_is_tried_again(script, request_for, source, how):
    source.cuts = [BREAKS_OFF[how]]
    assert run(script, "install", request_for("kubelet")) == (0, {"changed": ["kubelet"]}, "")
    assert len(source.requests) == 2


@pytest.mark.parametrize("how", BREAKS_OFF)
def test_one_that_always_breaks_off_is_given_up_with_that_reason(script, request_for, source, how):
    source.cuts = [BREAKS_OFF[how]] * 3
    code, _, error = run(script, "install", request_for("kubelet"))
    assert (code, len(source.requests)) == (1, script.TRIES)
    assert "the connection broke off" in error


@pytest.mark.parametrize("way", ["download", "copy"])
def test_a_full_disk_is_named_at_once_and_no_part_stays_on_it(
    script, request_for, source, tmp_path, monkeypatch, way
):
    """For real on a lab's host; here for both ways a file may come."""

    def half(_stream, path):
        Path(path).write_bytes(CONTENT[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(script, "write", half)
    changes = {"src": "/srv/kubelet", "url": None} if way == "copy" else {}
    request = request_for("kubelet", **changes)
    run(script, "missing", request)
    (tmp_path / "state" / "incoming" / "kubelet").write_bytes(CONTENT)
    code, _answer, errors = run(script, "install", request)
    assert code == 1
    assert f"The disk of {tmp_path / 'bin_dir'} is full: kubelet does not fit" in errors
    assert len(source.requests) == (0 if way == "copy" else 1)
    assert list((tmp_path / "bin_dir").iterdir()) == []


def test_a_missing_file_is_not_asked_for_again(script, request_for, source):
    code, _, error = run(script, "install", request_for("kubelet", url=f"{source.url}/no"))
    assert (code, error) == (1, f"{source.url}/no cannot be fetched: HTTP 404.\n")
    assert len(source.requests) == 1


def test_a_source_that_is_not_there_is_named(script, request_for):
    _, _, error = run(script, "install", request_for("kubelet", url="http://127.0.0.1:9/kubelet"))
    assert error == "http://127.0.0.1:9/kubelet cannot be fetched: Connection refused.\n"


@pytest.mark.parametrize("url", ["file:///etc/shadow", "ftp://x/y"])
def test_only_http_is_fetched(script, request_for, url):
    _, _, error = run(script, "install", request_for("kubelet", url=url))
    assert error == f"{url!r} is not an http(s) URL.\n"


@pytest.mark.parametrize("name", ["../kubelet", ".bashrc", "a/b"])
def test_a_name_that_leads_elsewhere_is_refused(script, request_for, name):
    code, _, error = run(script, "install", request_for("x").replace('"x"', json.dumps(name)))
    assert code == 1
    assert "is not the name of an artifact" in error


def test_what_the_portal_copied_is_verified_like_a_download(script, request_for, tmp_path):
    incoming = tmp_path / "state" / "incoming"
    incoming.mkdir(parents=True)
    (incoming / "kubelet").write_bytes(b"something else")
    code, _, error = run(script, "install", request_for("kubelet", url=None, src="/srv/kubelet"))
    assert code == 1
    assert "kubelet from /srv/kubelet has the checksum" in error


def test_what_is_missing_is_named_before_it_is_copied(script, request_for):
    request = request_for("kubelet")
    assert run(script, "missing", request)[1] == {"missing": ["kubelet"]}
    run(script, "install", request)
    assert run(script, "missing", request)[1] == {"missing": []}


def test_an_archive_goes_where_its_name_says_and_every_file_is_remembered(
    script, request_for, tmp_path
):
    archive = make_archive(bin__containerd=b"c", bin__ctr=b"t")
    run(script, "install", request_for("containerd.tar.gz", archive))
    assert (tmp_path / "prefix_dir" / "bin" / "ctr").read_bytes() == b"t"
    placed = (tmp_path / "state" / "placed").read_text().splitlines()
    parts = ("", "bin", "bin/containerd", "bin/ctr")
    assert placed == [str(tmp_path / "prefix_dir" / part) for part in parts]


def test_an_unpacked_archive_is_not_fetched_again(script, request_for, source):
    request = request_for("cni-plugins.tgz", make_archive(bridge=b"b"))
    run(script, "install", request)
    source.requests.clear()
    assert run(script, "install", request)[1] == {"changed": []}
    assert source.requests == []


@pytest.mark.parametrize("name", ["../escaped", "/etc/escaped", "a/../../escaped"])
def test_an_archive_may_not_leave_its_folder(script, request_for, tmp_path, name):
    code, _, error = run(script, "install", request_for("x.tar.gz", make_archive(**{name: b"x"})))
    assert code == 1
    assert "which is refused" in error
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd"])
def test_a_link_in_an_archive_may_not_lead_out(script, request_for, target):
    code, _, error = run(script, "install", request_for("x.tgz", make_link_archive("a", target)))
    assert code == 1
    assert "leads out of the archive" in error


def test_a_link_half_placed_by_a_killed_run_is_placed_again(script, request_for, tmp_path):
    folder = tmp_path / "cni_bin_dir"
    folder.mkdir()
    (folder / "bridge.beidou-part").symlink_to("elsewhere")
    archive = make_link_archive("bridge", "loopback")
    assert run(script, "install", request_for("cni-plugins.tgz", archive))[0] == 0
    assert (folder / "bridge").readlink() == Path("loopback")


def test_images_wait_for_containerd_under_their_name(script, request_for, tmp_path):
    run(script, "install", request_for("images.tar", b"a tar"))
    assert (tmp_path / "state" / "images" / "images.tar").read_bytes() == b"a tar"
    assert run(script, "missing", request_for("images.tar", b"a tar"))[1] == {"missing": []}


@pytest.fixture
def ctr(tmp_path, monkeypatch):
    """A ``ctr`` that knows the images in a file and obeys ``import``."""
    (tmp_path / "bin").mkdir()
    program, known = tmp_path / "bin" / "ctr", tmp_path / "known"
    known.write_text("")
    program.write_text(
        f'#!/bin/sh\ncase "$4" in list) cat {known};; *) [ -e {tmp_path}/broken ] &&'
        f' {{ echo "no space left" >&2; exit 1; }}; echo pause:3 >{known};; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return known


def docker_archive():
    manifest = json.dumps([{"RepoTags": ["pause:3"]}, {"RepoTags": None}]).encode()
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        member = tarfile.TarInfo("manifest.json")
        member.size = len(manifest)
        archive.addfile(member, io.BytesIO(manifest))
    return data.getvalue()


def test_loaded_images_are_not_fetched_again(script, request_for, ctr):
    request = request_for("images.tar", docker_archive())
    run(script, "install", request)
    assert run(script, "load") == (0, {"changed": ["images.tar"]}, "")
    assert run(script, "load") == (0, {"changed": []}, "")
    assert run(script, "install", request)[1] == {"changed": []}


def test_images_that_containerd_threw_away_are_fetched_again(script, request_for, ctr):
    request = request_for("images.tar", docker_archive())
    run(script, "install", request)
    run(script, "load")
    ctr.write_text("")
    assert run(script, "missing", request)[1] == {"missing": ["images.tar"]}


def test_images_that_cannot_be_loaded_stay_and_the_reason_is_told(
    script, request_for, ctr, tmp_path
):
    run(script, "install", request_for("images.tar", docker_archive()))
    (tmp_path / "broken").touch()
    code, _, error = run(script, "load")
    assert (code, error) == (1, "images.tar cannot be loaded: no space left\n")
    assert (tmp_path / "state" / "images" / "images.tar").exists()


def test_half_an_archive_of_images_is_refused(script, request_for, ctr):
    run(script, "install", request_for("images.tar", docker_archive()[:300]))
    assert run(script, "load")[0] == 1
