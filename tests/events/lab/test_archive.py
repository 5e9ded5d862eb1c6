"""Into an archive on a real S3 server, and back."""

import os
import tracemalloc
from collections.abc import Iterator
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from django.core.management import call_command
from django.utils import timezone

from beidou.base import config
from events import tasks
from events.drivers.archive import Archive
from events.drivers.errors import ArchiveAway
from events.models import Event, EventArchiving, EventSegment
from lab import Lab
from lab.services.endpoint import Endpoint
from tests.events.test_archive import ago, keep, left
from tests.events.test_stores import of_day

pytestmark = [pytest.mark.lab, pytest.mark.django_db]
MANY = 5000


@pytest.fixture(scope="module")
def s3() -> Iterator[Endpoint]:
    with Lab.start(f"archive-{os.getpid()}") as lab:
        yield lab.s3()


def client_of(s3):
    return boto3.client(
        "s3",
        endpoint_url=s3.url,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )


def address_of(s3, bucket, *, secret=""):
    place = urlsplit(s3.url).netloc
    key = f"{s3.access_key}:{secret or s3.secret_key}"
    return config.parse_event_archive_url(f"s3+http://{key}@{place}/{bucket}/events")


@pytest.fixture
def bucket(s3, request, settings):
    settings.EVENT_DAYS = settings.EVENT_WARNING_DAYS = 30
    name = f"b{abs(hash(request.node.name))}"
    client_of(s3).create_bucket(Bucket=name)
    settings.EVENT_ARCHIVE = address_of(s3, name)
    return name


def keys(s3, bucket):
    return [each["Key"] for each in client_of(s3).list_objects_v2(Bucket=bucket)["Contents"]]


def test_events_go_into_a_bucket_and_come_back(s3, bucket, cluster_a, capsys):
    names = [f"e{number}" for number in range(MANY)]
    keep(cluster_a, *(of_day(ago(40), name) for name in names))
    before = list(Event.objects.order_by("uid").values("uid", "message", "last_seen", "raw"))
    tracemalloc.start()
    assert tasks.archive_old() == MANY
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20
    row = EventSegment.objects.get()
    assert sorted(keys(s3, bucket)) == ["events/beidou-archive", f"events/{row.object_name}"]
    told = client_of(s3).head_object(Bucket=bucket, Key=f"events/{row.object_name}")
    assert (told["ContentLength"], told.get("ContentEncoding", "")) == (row.bytes, "")
    assert left() == []
    call_command("restore_events", cluster="cluster-a", since=ago(40), until=ago(40))
    after = list(Event.objects.order_by("uid").values("uid", "message", "last_seen", "raw"))
    assert after == before
    assert f"{MANY:,} events are back" in capsys.readouterr().out


def test_a_bucket_that_is_not_there_is_told(s3, bucket, settings, cluster_a):
    settings.EVENT_ARCHIVE = address_of(s3, "nowhere")
    keep(cluster_a, of_day(ago(40)))
    assert tasks.archive_old() == 0
    assert "cannot be used" in EventArchiving.objects.get().problem
    assert left() == ["web.1"]


def test_a_credential_that_is_refused_is_told_and_not_quoted(s3, bucket, tmp_path):
    with pytest.raises(ArchiveAway, match="cannot be used") as told:
        Archive(address_of(s3, bucket, secret="sesame"), tmp_path).require(is_new=True)
    for secret in ("sesame", s3.access_key):
        assert secret not in told.value.message


def test_a_server_that_ends_in_the_middle_loses_nothing(s3, bucket, cluster_a, monkeypatch):
    keep(cluster_a, of_day(ago(41), "a"), of_day(ago(40), "b"))
    put, calls = Archive.put, []

    def ends(self, *given):
        calls.append(timezone.now())
        if len(calls) == 2:
            s3.stop()
        put(self, *given)

    monkeypatch.setattr(Archive, "put", ends)
    assert tasks.archive_old() == 1
    assert "cannot be used" in EventArchiving.objects.get().problem
    assert left() == ["b"]
