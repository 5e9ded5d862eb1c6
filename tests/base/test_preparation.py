"""What a first start does, and a second one does not."""

from io import StringIO

import pytest
from django.core.management import call_command
from django.test import override_settings

from beidou.base import preparation
from beidou.base.models import AuditEntry, User
from tests import factories

pytestmark = pytest.mark.django_db


def test_the_first_start_makes_an_administrator_with_the_password_it_gives():
    password = preparation.ensure_admin()
    user = User.objects.get(username="admin")
    assert password is not None
    assert user.check_password(password)
    assert user.is_superuser


def test_a_second_start_makes_no_other_administrator(admin):
    assert preparation.ensure_admin() is None


def test_an_administrator_who_was_deactivated_does_not_count():
    factories.make_user("boss", is_superuser=True, is_active=False)
    assert preparation.ensure_admin() is not None


def test_making_the_administrator_is_audited_without_the_password():
    password = preparation.ensure_admin()
    entry = AuditEntry.objects.get()
    assert entry.verb == "add"
    assert str(password) not in str(entry.after)


def test_the_command_says_the_password_once():
    first, second = StringIO(), StringIO()
    call_command("ensure_admin", stdout=first)
    call_command("ensure_admin", stdout=second)
    assert "password" in first.getvalue()
    assert "nothing was changed" in second.getvalue()


def test_an_up_to_date_database_is_not_migrated_again():
    assert preparation.migrate() is False


def test_static_files_are_collected_once_until_one_changes(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "one.css").write_text("a { color: red }")
    changes = {
        "STATIC_ROOT": tmp_path / "root",
        "STATICFILES_DIRS": [source],
        "STATICFILES_FINDERS": ["django.contrib.staticfiles.finders.FileSystemFinder"],
    }
    with override_settings(**changes):
        assert preparation.collect_static() is True
        assert preparation.collect_static() is False
        (source / "two.css").write_text("b { color: red }")
        assert preparation.collect_static() is True
    assert (tmp_path / "root" / "two.css").exists()
