"""The configuration: every mistake gets one clear sentence, all of them at once."""

import os
import stat
from io import StringIO
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command

from beidou.base import config


def load(tmp_path, **values: str) -> config.Config:
    given = {f"BEIDOU_{name}": value for name, value in values.items()}
    return config.load({"BEIDOU_DATA_DIR": str(tmp_path / "data"), **given})


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PORT", "eighty", "BEIDOU_PORT is 'eighty', not a whole number."),
        ("PORT", "70000", "BEIDOU_PORT is 70000; allowed are 1 to 65535."),
        ("HTTPS", "maybe", "BEIDOU_HTTPS is 'maybe'; say yes or no."),
        ("LOG_FORMAT", "xml", "BEIDOU_LOG_FORMAT is 'xml'; allowed are text, json."),
        ("TIME_ZONE", "Mars/Base", "BEIDOU_TIME_ZONE is 'Mars/Base', which is no time zone"),
        ("SECRET_KEY", "short", "BEIDOU_SECRET_KEY has 5 characters; at least 50"),
        ("ENCRYPTION_KEYS", "abc", "BEIDOU_ENCRYPTION_KEYS has a key at position 1"),
        ("ENCRYPTION_KEYS", ",", "BEIDOU_ENCRYPTION_KEYS is empty."),
        ("DATABASE_URL", "mysql://h/d", "BEIDOU_DATABASE_URL begins with neither sqlite:///"),
        ("DATABASE_URL", "postgresql://h", "BEIDOU_DATABASE_URL names no database"),
        ("DATABASE_URL", "sqlite://file", "BEIDOU_DATABASE_URL must look like sqlite:////"),
        ("BROKER_URL", "amqp://h", "BEIDOU_BROKER_URL is neither `database` nor an address"),
        ("TRUSTED_ORIGINS", "https://a.example,b.example", "an entry at position 2 that is no"),
        ("TRUSTED_ORIGINS", "https://a.example/portal", "without a path"),
        ("ARTIFACT_FOLDERS", "/srv,k8s", "a folder at position 2 that does not begin with /"),
        ("ARTIFACT_FOLDERS", "/srv/..", "has / at position 1"),
        ("METRICS_TOKEN", " ", "BEIDOU_METRICS_TOKEN is empty."),
        ("PROT", "1", "BEIDOU_PROT is no setting of Beidou"),
    ],
)
def test_a_mistake_gets_its_sentence(name, value, sentence, tmp_path):
    with pytest.raises(ImproperlyConfigured) as raised:
        load(tmp_path, **{name: value})
    assert sentence in str(raised.value)


def test_all_mistakes_are_said_at_once(tmp_path):
    with pytest.raises(ImproperlyConfigured) as raised:
        load(tmp_path, PORT="x", HTTPS="x", TIME_ZONE="x")
    assert len(str(raised.value).splitlines()) == 4


def test_a_key_for_a_server_that_knows_none_is_a_mistake(tmp_path):
    url = "opensearch+https://search.example.com"
    with pytest.raises(ImproperlyConfigured, match="OpenSearch knows user and password"):
        load(tmp_path, EVENT_STORE_URL=url, EVENT_STORE_API_KEY="k")


def test_a_mistake_in_a_secret_does_not_show_it(tmp_path):
    with pytest.raises(ImproperlyConfigured) as raised:
        load(tmp_path, SECRET_KEY="hunter2", ENCRYPTION_KEYS="hunter3")
    assert "hunter" not in str(raised.value)


@pytest.mark.parametrize("name", ["DATABASE_URL", "BROKER_URL"])
@pytest.mark.parametrize(
    "value",
    [
        "hunter2:x@host/name",
        "postgresql//user:hunter2@host/name",
        "amqp://:hunter2@host",
        "redis://user:hunter2/x@host/0",
        "postgresql://user:hunter2#x@host/name",
        "postgresql://user:hunter2@[host/name",
        "postgresql://user:hunter2@host\u2100/name",
    ],
)
def test_a_mistake_in_a_url_does_not_show_its_password(name, value, tmp_path):
    with pytest.raises(ImproperlyConfigured) as raised:
        load(tmp_path, **{name: value})
    assert f"BEIDOU_{name}" in str(raised.value)
    assert "hunter" not in str(raised.value)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("/srv/events", "must be file:///folder or look like s3://KEY:SECRET@host"),
        ("ftp://key:hunter2@host/bucket", "must be file:///folder or look like s3://"),
        ("file://srv/events", "must name a folder as file:///srv/events"),
        ("file:///", "must name a folder"),
        ("s3://host/bucket", "names no host, or not both key and secret"),
        ("s3://key@host/bucket", "not both key and secret"),
        ("s3://hunter1:hunter2@/bucket", "names no host"),
        ("s3://hunter1:hunter2@host", "names no bucket"),
        ("s3://hunter1:hunter2@host/B", "names no bucket"),
        ("s3://hunter1:hunter2#x@host/bucket", "percent-encoded"),
        ("s3://hunter1:2hunter/x@host/bucket", "percent-encoded"),
        ("s3://hunter1:hunter2@host/bucket?acl=hunter", "has an option that is none"),
    ],
)
def test_an_archive_that_is_none_is_told_without_its_secret(value, sentence, tmp_path):
    with pytest.raises(ImproperlyConfigured) as raised:
        load(tmp_path, EVENT_ARCHIVE_URL=value)
    assert "BEIDOU_EVENT_ARCHIVE_URL" in str(raised.value)
    assert sentence in str(raised.value)
    assert "hunter" not in str(raised.value)


def test_an_archive_is_read_whole_and_says_no_secret(tmp_path):
    url = "s3+http://key:a%2Fb%40c@[::1]:9000/my-bucket/a/b/?region=eu-central-1"
    found = load(tmp_path, EVENT_ARCHIVE_URL=url).event_archive_url
    assert (found.endpoint, found.bucket, found.prefix) == (
        "http://[::1]:9000", "my-bucket", "a/b",
    )  # fmt: skip
    assert (found.access_key, found.secret_key, found.region) == ("key", "a/b@c", "eu-central-1")
    assert found.label == "http://[::1]:9000/my-bucket/a/b"
    assert "a/b@c" not in repr(found)
    plain = load(tmp_path, EVENT_ARCHIVE_URL="s3://k:s@s3.example.com/bucket").event_archive_url
    assert (plain.endpoint, plain.prefix) == ("https://s3.example.com", "")
    folder = load(tmp_path, EVENT_ARCHIVE_URL="file:///srv/my%20events").event_archive_url
    assert (folder.folder, folder.label) == (Path("/srv/my events"), "/srv/my events")
    assert load(tmp_path).event_archive_url is None


def test_origins_are_taken_with_their_scheme(tmp_path):
    given = "https://a.example, http://*.b.example:8443"
    found = load(tmp_path, TRUSTED_ORIGINS=given).trusted_origins
    assert found == ["https://a.example", "http://*.b.example:8443"]


def test_artifacts_may_lie_in_the_data_folder_where_nothing_is_said(tmp_path):
    assert load(tmp_path).artifact_folders == [tmp_path / "data" / "artifacts"]
    given = load(tmp_path, ARTIFACT_FOLDERS="/srv/k8s, /mnt").artifact_folders
    assert given == [Path("/srv/k8s"), Path("/mnt")]


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(ImproperlyConfigured, match="cannot be made"):
        load(tmp_path, DATA_DIR=str(blocked / "data"))


def test_the_defaults_are_embedded_and_kept(tmp_path):
    first, second = load(tmp_path), load(tmp_path)
    assert first.database_url.endswith("/data/beidou.sqlite3")
    assert first.secret_key == second.secret_key
    assert first.encryption_keys == second.encryption_keys


def test_kept_keys_are_readable_by_the_owner_alone(tmp_path):
    load(tmp_path)
    for name in ("secret_key", "encryption_keys"):
        mode = stat.S_IMODE((tmp_path / "data" / name).stat().st_mode)
        assert mode == 0o600


def test_of_two_processes_that_start_at_once_the_first_key_counts(tmp_path):
    path = tmp_path / "key"

    def make_while_another_was_faster() -> str:
        path.write_text("theirs")
        return "ours"

    assert config.kept_secret(path, make_while_another_was_faster) == "theirs"
    assert os.listdir(tmp_path) == ["key"]


def test_several_encryption_keys_are_taken_in_order(tmp_path):
    keys = [Fernet.generate_key().decode() for _number in range(2)]
    assert load(tmp_path, ENCRYPTION_KEYS=" , ".join(keys)).encryption_keys == keys


def test_a_postgresql_address_is_read_whole():
    given = config.parse_database_url(
        "postgresql://li:p%40ss@db.example:5433/beidou?sslmode=require"
    )
    assert (given["USER"], given["PASSWORD"], given["HOST"], given["PORT"], given["NAME"]) == (
        "li", "p@ss", "db.example", "5433", "beidou",
    )  # fmt: skip
    assert given["OPTIONS"] == {"sslmode": "require"}


def test_the_page_of_the_configuration_is_up_to_date():
    call_command("document_configuration", "--check", stdout=StringIO())


def test_a_page_that_is_out_of_date_is_refused(monkeypatch):
    monkeypatch.setattr(
        "beidou.base.management.commands.document_configuration.VARIABLES", config.VARIABLES[1:]
    )
    with pytest.raises(CommandError, match="not up to date"):
        call_command("document_configuration", "--check")
