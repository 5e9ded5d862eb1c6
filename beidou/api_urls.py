"""``/api/v1/``: one router, every app registers its viewsets."""

from django.urls import path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from beidou.base.api import people, schema  # noqa: F401  schema registers itself
from beidou.base.api.not_found import not_found
from beidou.overview.api import OverviewView
from clusters.api.views import ClusterViewSet, GrantViewSet, NodeViewSet
from events.api.alerts import AlertRuleViewSet, EventAlertViewSet
from events.api.namespaces import NamespaceGrantViewSet
from events.api.saved import SavedSearchViewSet
from events.api.views import (
    EventRestoreViewSet,
    EventRetentionViewSet,
    EventSegmentViewSet,
    EventStreamViewSet,
    EventViewSet,
)
from machines.api.views import CredentialViewSet, DriftViewSet, MachineViewSet
from notifications.api.views import (
    DeliveryViewSet,
    NoticeViewSet,
    NotificationRuleViewSet,
    ReceiverViewSet,
)
from operations.api.manifests import ManifestViewSet
from operations.api.settings import (
    ClusterSettingsViewSet,
    FreezeViewSet,
    MaintenanceWindowViewSet,
    TeamLimitViewSet,
)
from operations.api.views import KindViewSet, OperationViewSet
from operations.flows.api.views import TaskViewSet
from operations.flows.library.api.views import TemplateViewSet
from operations.flows.schedules.api.views import ScheduleViewSet
from operations.outside.api import CallbackView, SiteSystemViewSet
from operations.playbooks.api.views import (
    PlaybookSourceViewSet,
    PlaybookViewSet,
    SourceRevisionViewSet,
)

router = SimpleRouter()
router.register("tokens", people.TokenViewSet, basename="token")
router.register("users", people.UserViewSet, basename="user")
router.register("teams", people.TeamViewSet, basename="team")
router.register("audit", people.AuditViewSet, basename="audit")
router.register("clusters", ClusterViewSet, basename="cluster")
router.register("nodes", NodeViewSet, basename="node")
router.register("grants", GrantViewSet, basename="clustergrant")
router.register("namespace-grants", NamespaceGrantViewSet, basename="namespacegrant")
router.register("machines", MachineViewSet, basename="machine")
router.register("drift", DriftViewSet, basename="drift")
router.register("credentials", CredentialViewSet, basename="sshcredential")
router.register("events", EventViewSet, basename="event")
router.register("event-streams", EventStreamViewSet, basename="eventstream")
router.register("event-retention", EventRetentionViewSet, basename="eventretention")
router.register("event-segments", EventSegmentViewSet, basename="eventsegment")
router.register("event-restores", EventRestoreViewSet, basename="eventrestore")
router.register("saved-event-searches", SavedSearchViewSet, basename="savedsearch")
router.register("event-alert-rules", AlertRuleViewSet, basename="alertrule")
router.register("event-alerts", EventAlertViewSet, basename="eventalert")
router.register("operations", OperationViewSet, basename="operation")
router.register("operation-kinds", KindViewSet, basename="operation-kind")
router.register("operation-settings", ClusterSettingsViewSet, basename="operation-settings")
router.register("maintenance-windows", MaintenanceWindowViewSet, basename="maintenancewindow")
router.register("freezes", FreezeViewSet, basename="freeze")
router.register("team-limits", TeamLimitViewSet, basename="teamlimit")
router.register("auto-operation-tasks", TaskViewSet, basename="auto-operation-task")
router.register("task-templates", TemplateViewSet, basename="task-template")
router.register("task-schedules", ScheduleViewSet, basename="taskschedule")
router.register("site-systems", SiteSystemViewSet, basename="sitesystem")
router.register("playbooks", PlaybookViewSet, basename="siteplaybook")
router.register("playbook-sources", PlaybookSourceViewSet, basename="playbooksource")
router.register("playbook-revisions", SourceRevisionViewSet, basename="sourcerevision")
router.register("manifests", ManifestViewSet, basename="manifest")
router.register("notification-rules", NotificationRuleViewSet, basename="notificationrule")
router.register("notification-receivers", ReceiverViewSet, basename="receiver")
router.register("notification-deliveries", DeliveryViewSet, basename="delivery")
router.register("notices", NoticeViewSet, basename="notice")

urlpatterns = [
    path("schema/", SpectacularAPIView.as_view(), name="api-schema"),
    path("docs/", SpectacularSwaggerSplitView.as_view(url_name="api-schema"), name="api-docs"),
    path("overview/", OverviewView.as_view(), name="overview"),
    path(
        "site-requests/<uuid:key>/callback/",
        CallbackView.as_view(),
        name="site-request-callback",
    ),
    *router.urls,
    path("<path:rest>", not_found),
]
