"""The way through the portal: the sidebar by domain, the account's links, the label of the portal.

Built anew for every request from what the signed-in person may see.  A page belongs to a model; an
entry whose model has no page, or whose page one may not see, is left out.
"""

from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from beidou.base import permissions
from beidou.base.permissions import Access

Text = str | Promise


@dataclass(frozen=True)
class Entry:
    """One line of the sidebar: the list page of ``model`` (``app.name``), or another ``page`` about
    such rows, by the name of its address."""

    title: Text
    icon: str
    model: str
    page: str = ""

    @property
    def address(self) -> str:
        return reverse(self.page) if self.page else list_address(self.model)


@dataclass(frozen=True)
class Section:
    title: Text
    entries: tuple[Entry, ...]


SECTIONS = (
    Section(
        gettext_lazy("Clusters"),
        (
            Entry(gettext_lazy("Clusters"), "hub", "clusters.Cluster"),
            Entry(gettext_lazy("Nodes"), "dns", "clusters.Node"),
            Entry(gettext_lazy("Grants"), "key", "clusters.ClusterGrant"),
            Entry(gettext_lazy("Grants of namespaces"), "vpn_key", "events.NamespaceGrant"),
        ),
    ),
    Section(
        gettext_lazy("Machines"),
        (
            Entry(gettext_lazy("Machines"), "host", "machines.Machine"),
            Entry(gettext_lazy("Drift"), "difference", "machines.Drift"),
            Entry(gettext_lazy("SSH credentials"), "vpn_key", "machines.SshCredential"),
        ),
    ),
    Section(
        gettext_lazy("Operations"),
        (
            Entry(gettext_lazy("Operations"), "play_circle", "operations.Operation"),
            Entry(
                gettext_lazy("Queue"), "low_priority", "operations.Operation", "operations:queue"
            ),
            Entry(gettext_lazy("One-click tasks"), "account_tree", "operations.AutoOperationTask"),
            Entry(gettext_lazy("Templates of tasks"), "schema", "operations.TaskTemplate"),
            Entry(gettext_lazy("Schedules of tasks"), "event_upcoming", "operations.TaskSchedule"),
            Entry(gettext_lazy("Playbooks"), "menu_book", "operations.SitePlaybook"),
            Entry(gettext_lazy("Sources of playbooks"), "source", "operations.PlaybookSource"),
            Entry(gettext_lazy("Operation settings"), "tune", "operations.ClusterSettings"),
            Entry(
                gettext_lazy("Maintenance windows"), "event_repeat", "operations.MaintenanceWindow"
            ),
            Entry(gettext_lazy("Freezes"), "ac_unit", "operations.Freeze"),
            Entry(gettext_lazy("Limits of teams"), "groups", "operations.TeamLimit"),
            Entry(gettext_lazy("Site systems"), "hub", "operations.SiteSystem"),
        ),
    ),
    Section(
        gettext_lazy("Events"),
        (
            Entry(gettext_lazy("Event centre"), "manage_search", "events.Event"),
            Entry(
                gettext_lazy("Key events"),
                "monitor_heart",
                "events.Event",
                "admin:events_event_key",
            ),
            Entry(gettext_lazy("Event streams"), "stream", "events.EventStream"),
            Entry(gettext_lazy("Saved searches"), "bookmark", "events.SavedSearch"),
            Entry(gettext_lazy("Alert rules"), "notification_add", "events.AlertRule"),
            Entry(gettext_lazy("Event alerts"), "notifications_active", "events.EventAlert"),
        ),
    ),
    Section(
        gettext_lazy("Notifications"),
        (
            Entry(gettext_lazy("Rules"), "rule", "notifications.NotificationRule"),
            Entry(gettext_lazy("Receivers"), "contact_mail", "notifications.Receiver"),
            Entry(gettext_lazy("Messages"), "outgoing_mail", "notifications.Delivery"),
            Entry(gettext_lazy("Notices"), "notifications", "base.Notice"),
        ),
    ),
    Section(
        gettext_lazy("Access"),
        (
            Entry(gettext_lazy("Users"), "person", "base.User"),
            Entry(gettext_lazy("Teams"), "group", "auth.Group"),
            Entry(gettext_lazy("API tokens"), "token", "base.ApiToken"),
            Entry(gettext_lazy("Audit trail"), "history_edu", "base.AuditEntry"),
        ),
    ),
)


class Sight:
    """Which list pages a person may see.

    Models whose rights come from the same place get the same answer, so that the question costs the
    database a handful of queries and not one per model.
    """

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._answers: dict[Access, bool] = {}

    def __call__(self, label: str) -> bool:
        model = apps.get_model(label)
        model_admin = admin.site._registry.get(model)
        if model_admin is None:
            return False
        access = permissions.access_of(model)
        if access == Access():
            return bool(model_admin.has_view_permission(self._request))
        # Lookups differ from model to model; that there is one is all that matters here.
        alike = Access(
            cluster=None if access.cluster is None else "cluster",
            team=None if access.team is None else "team",
            owner=None if access.owner is None else "owner",
            owner_needs=access.owner_needs,
            everyone=access.everyone,
            view_permission=access.view_permission,
            view_needs=access.view_needs,
            namespace=access.namespace and "namespace",
        )
        if alike not in self._answers:
            self._answers[alike] = bool(model_admin.has_view_permission(self._request))
        return self._answers[alike]


def list_address(label: str) -> str:
    """The address of the list page of ``label`` (``app.Model``)."""
    app, name = label.lower().split(".")
    return reverse(f"admin:{app}_{name}_changelist")


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar in the theme's shape."""
    may_see = Sight(request)
    current = _current(request.path)
    home = {"title": _("Operations centre"), "icon": "explore", "link": reverse("admin:index")}
    groups: list[dict[str, Any]] = [{"title": "", "items": [home]}]
    for section in SECTIONS:
        items = [
            {
                "title": entry.title,
                "icon": entry.icon,
                "link": entry.address,
                "active": entry.address == current,
            }
            for entry in section.entries
            if may_see(entry.model)
        ]
        if items:
            groups.append({"title": section.title, "items": items})
    return groups


def _current(path: str) -> str:
    """The entry of which the page is a part: of two, one below the other, the lower."""
    addresses = (entry.address for section in SECTIONS for entry in section.entries)
    return max(filter(path.startswith, addresses), key=len, default="")


def environment(request: HttpRequest) -> list[str] | None:
    """The label beside the head line that tells this portal from others, and its colour."""
    return [settings.LABEL, "info"] if settings.LABEL else None


def account(request: HttpRequest) -> list[dict[str, Any]]:
    """What stands in the menu of the signed-in user."""
    return [
        {"title": _("My account"), "link": reverse("account")},
        {"title": _("Interface for programs"), "link": reverse("api-docs")},
    ]


def language_address(request: HttpRequest) -> str:
    return reverse("account_language")
