"""The cast of the tests: ``admin``; ``operator`` (may operate cluster A); ``viewer`` (may see it);
``stranger`` (signed in, nothing granted); ``auditor`` (sees the whole fleet)."""

from collections.abc import Iterator

import pytest
from django.apps import AppConfig
from django.contrib.auth.models import Group
from django.db.models.signals import post_migrate
from django.dispatch import receiver
from django.test import Client
from django.utils import translation
from rest_framework.test import APIClient

from beidou.base.models import AuditEntry, AuditHead, User
from clusters.models import Cluster
from tests import factories

pytest_plugins = ["tests.browser_fixtures", "tests.lab_fixtures", "tests.links"]
_DATABASE_FIXTURES = {"db", "transactional_db", "django_db_serialized_rollback", "live_server"}


@receiver(post_migrate)
def _begin_the_audit_trail(app_config: AppConfig, **_kwargs: object) -> None:
    """What a migration has put there, again after a test that empties all tables."""
    if app_config.label == "base" and not AuditEntry.objects.exists():
        AuditHead.objects.get_or_create(pk=1)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Marks what uses the database: the rest is the same on every one, and runs once."""
    names = getattr(item, "fixturenames", ())
    if item.get_closest_marker("django_db") or not _DATABASE_FIXTURES.isdisjoint(names):
        item.add_marker(pytest.mark.database)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What lasts longest begins first, so that at the end one process does not work alone."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True)
def _english_again() -> Iterator[None]:
    """The language of a request stays with its thread; the next test must not read in it."""
    yield
    translation.deactivate()


@pytest.fixture
def cluster_a(db: None) -> Cluster:
    return factories.make_cluster("cluster-a")


@pytest.fixture
def cluster_b(db: None) -> Cluster:
    return factories.make_cluster("cluster-b")


@pytest.fixture
def operators(cluster_a: Cluster) -> Group:
    team = factories.make_team("operators")
    factories.grant(team, cluster_a, "operator")
    return team


@pytest.fixture
def viewers(cluster_a: Cluster) -> Group:
    team = factories.make_team("viewers")
    factories.grant(team, cluster_a, "viewer")
    return team


@pytest.fixture
def admin(db: None) -> User:
    return factories.make_user("admin", is_superuser=True)


@pytest.fixture
def operator(operators: Group) -> User:
    return factories.make_user("operator", teams=(operators,))


@pytest.fixture
def viewer(viewers: Group) -> User:
    return factories.make_user("viewer", teams=(viewers,))


@pytest.fixture
def stranger(db: None) -> User:
    return factories.make_user("stranger")


@pytest.fixture
def auditor(db: None) -> User:
    team = factories.make_team("auditors")
    factories.give(team, "base.audit_fleet")
    return factories.make_user("auditor", teams=(team,))


@pytest.fixture
def cast(
    admin: User, operator: User, viewer: User, stranger: User, auditor: User
) -> dict[str, User]:
    people = (admin, operator, viewer, stranger, auditor)
    return {user.get_username(): user for user in people}


class Browser(Client):
    """A signed-in browser: ``browser(user).get(...)``."""


@pytest.fixture
def browser(db: None):
    def sign_in(user: User) -> Browser:
        client = Browser()
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return sign_in


@pytest.fixture
def api(db: None):
    def sign_in(user: User | None = None) -> APIClient:
        client = APIClient()
        if user is not None:
            client.force_authenticate(user)
        return client

    return sign_in
