"""Sources are read by a worker, looked at, and released; nothing is offered that nobody looked
at."""

from datetime import timedelta

import pytest
from django.utils import timezone

from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.models import AuditEntry
from operations.drivers.trees import FILE, Entry
from operations.models import PlaybookSource, SitePlaybook, SourceRevision
from operations.playbooks import review
from operations.services import playbook_sources
from tests.operations.playbooks.conftest import DECLARED

pytestmark = pytest.mark.django_db
Kind = PlaybookSource.Kind


def test_what_was_read_is_not_offered(site):
    assert site.read().files == 2
    assert site.offered() == []
    assert site.source.released is None


def test_what_was_released_is_offered_and_audited(site, admin):
    revision = site.release()
    assert site.offered() == ["greet"]
    assert (site.source.released, revision.released_by) == (revision, "admin")
    entry = AuditEntry.objects.get(verb="release playbooks")
    assert entry.after["digest"] == revision.digest


def test_a_source_that_moved_on_offers_what_was_released(site):
    released = site.release()
    site.write("greet.yml", "[]")
    newer = site.read()
    assert newer != released
    assert site.source.released == released


def test_the_same_content_is_one_revision(site):
    assert site.read() == site.read()


def test_what_is_not_declared_any_more_is_withdrawn(site):
    site.release()
    site.release({**DECLARED, "name": "wave"})
    assert site.offered() == ["wave"]
    assert SitePlaybook.objects.get(name="greet").is_offered is False
    site.declare()
    site.release()
    assert site.offered() == ["greet"]


def test_only_what_was_looked_at_is_released(site, admin):
    revision = site.read()
    with pytest.raises(Conflict, match="not the content that you looked at"):
        playbook_sources.release(revision, digest="sha256:other", acting_user=admin)
    assert site.offered() == []


@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
def test_nobody_but_administrators_decides(site, cast, who):
    revision = site.read()
    user = cast[who]
    with pytest.raises(Forbidden):
        playbook_sources.release(revision, digest=revision.digest, acting_user=user)
    with pytest.raises(Forbidden):
        playbook_sources.ask(site.source, acting_user=user)
    with pytest.raises(Forbidden):
        playbook_sources.withdraw(site.source, acting_user=user)


def test_a_source_that_was_withdrawn_offers_nothing(site, admin):
    site.release()
    playbook_sources.withdraw(site.source, acting_user=admin)
    assert site.offered() == []


def test_a_source_that_is_switched_off_offers_nothing(site):
    site.release()
    PlaybookSource.objects.update(enabled=False)
    assert site.offered() == []


def test_what_keeps_it_from_being_read_is_kept_with_it(site):
    site.write("beidou.yaml", "version: 2")
    assert site.read() is None
    assert "beidou.yaml" in site.source.problem
    assert not site.source.is_being_read


def test_a_folder_that_is_not_allowed_any_more_is_not_read(site, settings, tmp_path):
    settings.PLAYBOOK_FOLDERS = [tmp_path / "other"]
    assert site.read() is None
    assert "BEIDOU_PLAYBOOK_FOLDERS" in site.source.problem


def test_a_mistake_of_ours_is_told_as_one(site, monkeypatch):
    monkeypatch.setattr(review, "remarks", lambda _tree: 1 / 0)
    assert site.read() is None
    assert "The portal made a mistake" in site.source.problem


def test_asking_has_a_worker_read_it(site, admin, work, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        playbook_sources.ask(site.source, acting_user=admin)
    assert site.source.is_being_read
    assert work() == 1
    site.source.refresh_from_db()
    assert not site.source.is_being_read
    assert site.source.revisions.count() == 1
    assert AuditEntry.objects.filter(verb="read playbooks").exists()


def test_what_no_worker_read_is_not_being_read_for_ever(site):
    site.source.asked_at = timezone.now() - timedelta(minutes=4)
    assert (site.source.is_being_read, site.source.was_not_read) == (True, False)
    site.source.asked_at = timezone.now() - timedelta(minutes=6)
    assert (site.source.is_being_read, site.source.was_not_read) == (False, True)
    site.read()
    assert not site.source.was_not_read


def test_old_content_that_nobody_runs_is_forgotten(site, monkeypatch):
    monkeypatch.setattr(playbook_sources, "KEPT", 2)
    released = site.release()
    for number in range(5):
        site.write("more.yml", f"# {number}")
        site.read()
    assert SourceRevision.objects.count() == 4
    assert SourceRevision.objects.filter(pk=released.pk).exists()


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"location": "relative"}, "location"),
        ({"location": "/etc"}, "location"),
        ({"subfolder": "../x"}, "subfolder"),
        ({"kind": Kind.GIT, "location": "http://x/y"}, "location"),
        ({"kind": Kind.GIT, "location": "https://x/y", "ref": "-x"}, "ref"),
    ],
)
def test_a_source_that_is_wrong_is_refused_at_its_field(site, values, field):
    for name, value in values.items():
        setattr(site.source, name, value)
    with pytest.raises(InvalidInput) as caught:
        playbook_sources.validate(site.source)
    assert set(caught.value.fields) == {field}


def test_a_secret_is_not_sent_to_another_host_than_it_was_given_for():
    stored = PlaybookSource(kind=Kind.GIT, location="https://a/x", ref="main", secret="s" * 20)
    moved = PlaybookSource(kind=Kind.GIT, location="https://b/x", ref="main", secret="s" * 20)
    with pytest.raises(InvalidInput, match="another host"):
        playbook_sources.validate(moved, stored=stored)
    moved.location = "https://a/y"
    playbook_sources.validate(moved, stored=stored)


def test_a_folder_keeps_nothing_of_a_repository(site):
    site.source.ref, site.source.secret = "main", "secret"
    playbook_sources.validate(site.source)
    assert (site.source.ref, site.source.secret) == ("", "")


def test_the_secret_is_encrypted_in_the_database(site, django_assert_num_queries):
    PlaybookSource.objects.filter(pk=site.source.pk).update(secret="s3cret")
    raw = PlaybookSource.objects.extra(select={"raw": "secret"}).values_list("raw", flat=True)
    assert "s3cret" not in raw.get()


# --- what a reviewer is told -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("ansible.cfg", "[defaults]", "ansible.cfg is not used"),
        ("roles/requirements.yml", "[]", "is not installed"),
        ("filter_plugins/x.py", "", "is a plugin: it runs on the worker's machine"),
        ("collections/a/b/plugins/lookup/x.py", "", "is a plugin"),
        ("vars/v.yml", "$ANSIBLE_VAULT;1.1;AES256", "encrypted with ansible-vault"),
        ("a.yml", "- x: \"{{ lookup('pipe', 'id') }}\"", "a.yml, line 1, is done on the worker's"),
        ("a.yml", "\n  delegate_to: localhost", "a.yml, line 2, is done on the worker's"),
        ("a.yml", "- hosts: localhost", "is done on the worker's"),
        ("a.yml", "  connection: local", "is done on the worker's"),
        ("a.yml", "  local_action: command id", "is done on the worker's"),
        ("a.yml", "  no_log: false", "shows what may be secret"),
        ("group_vars/all", "x: \"{{ lookup('env', 'X') }}\"", "is done on the worker's machine"),
        ("host_vars/web-1/main", "x: \"{{ lookup('env', 'X') }}\"", "is done on the worker's"),
        ("group_vars/all", "ansible_ssh_args: -o X=y", "group_vars/all, line 1, says how hosts"),
        ("a.yml", "    ansible_host_key_checking: false", "a.yml, line 1, says how hosts"),
        ("a.yml", "    'ansible_connection': paramiko", "a.yml, line 1, says how hosts"),
        ("big.yml", "# " + "x" * 400_000, "big.yml is too large to be looked through"),
    ],
)
def test_what_deserves_a_second_look_is_named(site, name, text, sentence):
    site.write(name, text)
    assert any(sentence in remark for remark in site.read().remarks)


@pytest.mark.parametrize(
    ("pattern", "is_named"),
    [
        ("(a+)+$", True),
        ("^(a|aa)*$", True),
        (r"(\w+\.){1,}x", True),
        ("^[a-z0-9]+(,[a-z0-9])*$", False),
        (r"^(\(+)?$", False),
    ],
)
def test_a_pattern_that_can_take_for_ever_is_named(site, pattern, is_named):
    inner = {"type": "array", "items": {"type": "string", "pattern": pattern}}
    site.declare(parameters={"properties": {"names": inner}})
    found = [each for each in site.read().remarks if "names in greet repeats" in each]
    assert bool(found) == is_named


def test_who_only_asks_how_a_host_is_reached_has_no_remark(site):
    site.write("a.j2", "{{ ansible_host }} {% if ansible_host == 'x' %}y{% endif %}\n")
    assert site.read().remarks == []


def test_a_plain_source_has_no_remarks(site):
    assert site.read().remarks == []


def test_what_is_new_is_shown_file_by_file(site):
    site.release()
    site.write("greet.yml", (site.folder / "greet.yml").read_text().replace("Say it", "Shout"))
    site.write("binary", "\0")
    changes = playbook_sources.changes(site.read())
    assert [(change.path, change.what) for change in changes] == [
        ("binary", "added"), ("greet.yml", "changed"),
    ]  # fmt: skip
    assert "-    - name: Say it" in changes[1].lines
    assert "+    - name: Shout" in changes[1].lines


def test_of_the_first_revision_all_is_new(site):
    changes = playbook_sources.changes(site.read())
    assert {change.what for change in changes} == {"added"}


def test_a_huge_difference_names_its_files_all_the_same(site, monkeypatch):
    monkeypatch.setattr(review, "LINES_MAX", 3)
    changes = playbook_sources.changes(site.read())
    assert [change.path for change in changes] == ["beidou.yaml", "greet.yml"]
    assert sum(len(change.lines) for change in changes) == 3


def test_what_is_not_shown_is_said_to_be_so(site, monkeypatch):
    monkeypatch.setattr(review, "LINES_MAX", 3)
    monkeypatch.setattr(review, "TEXT_MAX", 4000)
    site.write("binary", "\0")
    site.write("large.yml", "x" * 5000)
    hidden = {change.path: change.hidden for change in playbook_sources.changes(site.read())}
    assert hidden == {
        "beidou.yaml": "lines", "binary": "binary", "greet.yml": "lines", "large.yml": "large",
    }  # fmt: skip


def test_what_is_shown_whole_hides_nothing(site):
    assert {change.hidden for change in playbook_sources.changes(site.read())} == {""}


def entry(*lines):
    return [Entry("a.yml", FILE, "\n".join(lines).encode())]


@pytest.fixture
def compared(monkeypatch):
    """How many lines were compared one by one, for each comparison."""
    sizes = []
    real = review.difflib.SequenceMatcher

    def counted(_junk, old, new):
        sizes.append((len(old), len(new)))
        return real(None, old, new)

    monkeypatch.setattr(review.difflib, "SequenceMatcher", counted)
    return sizes


def test_where_no_line_is_left_to_show_nothing_is_compared(monkeypatch, compared):
    monkeypatch.setattr(review, "LINES_MAX", 0)
    (change,) = review.changes(entry("a", "b", "c"), entry("a", "x", "y"))
    assert (change.lines, change.hidden, compared) == ((), "lines", [])


def test_files_that_are_new_or_gone_are_not_compared(compared):
    (added,), (removed,) = review.changes([], entry("a")), review.changes(entry("a"), [])
    assert (added.lines[1:], removed.lines[1:], compared) == (("+a",), ("-a",), [])


def test_of_a_long_file_only_the_part_that_differs_is_compared(compared):
    old = [f"line {number}" for number in range(20_000)]
    new = [*old[:10_000], "other", "one more", *old[10_002:]]
    new[10_010] = "third"
    (change,) = review.changes(entry(*old), entry(*new))
    assert change.lines == (
        "@@ -9998,8 +9998,8 @@",
        " line 9997", " line 9998", " line 9999",
        "-line 10000", "-line 10001", "+other", "+one more",
        " line 10002", " line 10003", " line 10004",
        "@@ -10008,7 +10008,7 @@",
        " line 10007", " line 10008", " line 10009",
        "-line 10010", "+third",
        " line 10011", " line 10012", " line 10013",
    )  # fmt: skip
    assert max(compared) < (20, 20)


def test_where_too_much_differs_the_old_is_shown_before_the_new(monkeypatch, compared):
    monkeypatch.setattr(review, "COMPARED_MAX", 3)
    old, new = entry("same", "a", "b", "c", "d"), entry("same", "a", "x", "c", "y", "z")
    (change,) = review.changes(old, new)
    assert change.lines == (
        "@@ -1,5 +1,6 @@", " same", " a", "-b", "-c", "-d", "+x", "+c", "+y", "+z",
    )  # fmt: skip
    assert compared == []
