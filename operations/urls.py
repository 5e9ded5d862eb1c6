"""Pages of operations that are no lists and no forms of rows."""

from django.urls import path

from operations.flows import views as flows
from operations.flows.library import views as library
from operations.views import create_cluster, pages, queue, start

app_name = "operations"
urlpatterns = [
    path("operations/start/", start.StartView.as_view(), name="start"),
    path(
        "operations/create-cluster/",
        create_cluster.CreateClusterView.as_view(),
        name="create_cluster",
    ),
    path("operations/queue/", queue.QueueView.as_view(), name="queue"),
    path("operations/queue/now/", queue.queue_now, name="queue_now"),
    path("operations/<int:pk>/evidence/", pages.evidence, name="evidence"),
    path("operations/<int:pk>/results/", pages.results, name="results"),
    path("operations/<int:pk>/audit/", pages.audit, name="audit"),
    path("operations/<int:pk>/manifest/", pages.manifest, name="manifest"),
    path("tasks/templates/new/", library.EditView.as_view(), name="template_new"),
    path("tasks/templates/<str:name>/", library.TemplateView.as_view(), name="template"),
    path("tasks/templates/<str:name>/edit/", library.EditView.as_view(), name="template_edit"),
    path("tasks/templates/<str:name>/offer/", library.OfferView.as_view(), name="template_offer"),
    path("tasks/start/", flows.StartTaskView.as_view(), name="start_task"),
    path("tasks/<int:pk>/manifest/", flows.task_manifest, name="task_manifest"),
]
