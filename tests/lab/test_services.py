"""The back ends: started once, on ports of their own, ended by process id."""

import io
import socket
import tarfile
import urllib.parse
from pathlib import Path

import httpx
import psycopg
import pytest

from lab import Lab, LabError
from lab.images import Image
from lab.process import run, wait_for

pytestmark = pytest.mark.lab


def redis_says(url: str, command: str) -> str:
    address = urllib.parse.urlsplit(url)
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        connection.sendall(f"{command}\r\n".encode())
        return connection.recv(100).decode()


def test_postgres_has_an_empty_database(real_lab: Lab):
    with psycopg.connect(real_lab.postgres()) as connection:
        tables = connection.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'public'")
        assert tables.fetchall() == []


def test_postgres_lets_nobody_in_without_the_password(real_lab: Lab):
    address = urllib.parse.urlsplit(real_lab.postgres())
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://beidou:wrong@127.0.0.1:{address.port}/beidou")


def test_redis_answers(real_lab: Lab):
    assert redis_says(real_lab.redis(), "PING") == "+PONG\r\n"


def test_asking_again_gives_the_same_server(real_lab: Lab):
    assert real_lab.redis() == real_lab.redis() == Lab.attach(real_lab.name).redis()


def test_a_stopped_server_is_followed_by_a_new_one(real_lab: Lab):
    before = real_lab.endpoint("redis")
    before.stop()
    assert real_lab.redis() != before.url
    assert redis_says(real_lab.redis(), "PING") == "+PONG\r\n"


def test_s3_keeps_an_object_for_its_account(real_lab: Lab, tmp_path: Path):
    s3 = real_lab.s3()
    (tmp_path / "object").write_text("content\n")
    curl = [
        "curl", "--silent", "--show-error", "--fail-with-body",
        "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", f"{s3.access_key}:{s3.secret_key}",
        "--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD",
    ]  # fmt: skip
    run(*curl, "--request", "PUT", f"{s3.url}/bucket")
    run(*curl, "--upload-file", tmp_path / "object", f"{s3.url}/bucket/one")
    assert run(*curl, f"{s3.url}/bucket/one") == "content\n"


def test_s3_refuses_strangers(real_lab: Lab):
    assert httpx.get(f"{real_lab.s3().url}/bucket").status_code == 403


def test_the_registry_is_empty(real_lab: Lab):
    assert httpx.get(f"{real_lab.registry()}/v2/_catalog").json() == {"repositories": []}


def test_an_image_is_pushed_under_its_name_without_the_registry(real_lab: Lab, tmp_path: Path):
    (tmp_path / "proof").write_text("content\n")
    real_lab.push(Image("registry.example/only/here:1", {"proof": tmp_path / "proof"}))
    base = f"{real_lab.registry()}/v2/only/here"
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    manifest = httpx.get(f"{base}/manifests/1", headers=accept).json()
    (layer,) = manifest["layers"]
    content = httpx.get(f"{base}/blobs/{layer['digest']}").content
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        assert "proof" in opened.getnames()


def test_prometheus_scrapes_what_it_is_told(real_lab: Lab):
    target = real_lab.node_exporter().removeprefix("http://")
    query = f"{real_lab.prometheus([target])}/api/v1/query?query=up"

    def is_up() -> bool:
        result = httpx.get(query).json()["data"]["result"]
        return [one["value"][1] for one in result] == ["1"]

    wait_for("The first scrape", is_up, timeout=30)


def test_elasticsearch_finds_what_it_was_given(real_lab: Lab):
    url = real_lab.elasticsearch()
    httpx.post(f"{url}/events/_doc?refresh=true", json={"reason": "Evicted"}, timeout=30)
    found = httpx.get(f"{url}/events/_search?q=reason:evicted", timeout=30).json()
    assert found["hits"]["total"]["value"] == 1


def test_opensearch_finds_what_it_was_given(real_lab: Lab):
    url = real_lab.opensearch()
    httpx.post(f"{url}/events/_doc?refresh=true", json={"reason": "Evicted"}, timeout=30)
    query = {"aggs": {"reasons": {"terms": {"field": "reason.keyword"}}}}
    found = httpx.post(f"{url}/events/_search?q=reason:evicted", json=query, timeout=30).json()
    assert found["hits"]["total"]["value"] == 1
    assert [one["key"] for one in found["aggregations"]["reasons"]["buckets"]] == ["Evicted"]


def test_opensearch_refuses_a_version_it_has_already(real_lab: Lab):
    document = f"{real_lab.opensearch()}/versions/_doc/one?version=7&version_type=external"
    assert httpx.put(document, json={}, timeout=30).status_code == 201
    assert httpx.put(document, json={}, timeout=30).status_code == 409


def test_opensearch_pages_by_nanoseconds_through_a_sorted_index(real_lab: Lab):
    url = real_lab.opensearch()
    template = {
        "index_patterns": ["sorted-*"],
        "template": {
            "settings": {"index.sort.field": "at", "index.sort.order": "desc"},
            "mappings": {"properties": {"at": {"type": "date_nanos"}}},
        },
    }
    httpx.put(f"{url}/_index_template/sorted", json=template, timeout=30).raise_for_status()
    for nanoseconds in (1, 2):
        moment = {"at": f"2026-01-01T00:00:00.00000000{nanoseconds}Z"}
        httpx.put(f"{url}/sorted-1/_doc/{nanoseconds}?refresh=true", json=moment, timeout=30)
    page = {"size": 1, "sort": [{"at": "desc"}]}
    first = httpx.post(f"{url}/sorted-*/_search", json=page, timeout=30).json()["hits"]["hits"]
    page["search_after"] = first[-1]["sort"]
    second = httpx.post(f"{url}/sorted-*/_search", json=page, timeout=30).json()["hits"]["hits"]
    assert [one["_id"] for one in first + second] == ["2", "1"]


def test_an_unknown_back_end_is_refused_with_the_known_ones(real_lab: Lab):
    with pytest.raises(LabError, match="no back end oracle; it has postgres, redis"):
        real_lab.endpoint("oracle")
