"""Viewsets of machines, drift and credentials."""

from typing import Any, ClassVar

from django.db.models import Model, QuerySet
from django.http import Http404
from django.utils.translation import gettext as _
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import extend_schema
from import_export.results import RowResult
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from beidou.base import audit, permissions
from beidou.base.api.filters import Ordering
from beidou.base.api.parsers import MultiPartParser
from beidou.base.api.viewsets import BaseViewSet, ReadOnlyViewSet
from beidou.base.errors import BeidouError, Forbidden, InvalidInput
from clusters.models import Cluster
from machines.api import filters, serializers
from machines.files import reading, report
from machines.files.resource import MachineResource
from machines.models import Drift, Machine, MachineFacts, SshCredential
from machines.services import (
    belonging,
    credentials,
    drift,
    edits,
    facts,
    host_keys,
    lifecycle,
    registration,
    removal,
)

HISTORY_AT_MOST = 200
CREATED_AT_ONCE = 1000


def _chosen(usable: QuerySet[Any], key: int | None, field: str) -> Any:
    """The row with this key among those a person may use; a sentence at the field otherwise."""
    if key is None:
        return None
    row = usable.filter(pk=key).first()
    if row is None:
        sentence = _("There is no %(what)s %(key)s that you may use.") % {
            "what": usable.model._meta.verbose_name,
            "key": key,
        }
        raise InvalidInput(sentence, fields={field: sentence})
    return row


class MachineViewSet(BaseViewSet):
    """Machines. Their state changes by ``transition`` only, never by PATCH."""

    queryset = Machine.objects.select_related("cluster", "node")
    serializer_class = serializers.MachineSerializer
    filterset_class = filters.MachineFilter
    filter_backends = [DjangoFilterBackend, filters.AnyName, filters.ByAddress]
    ordering_fields = ["address", "hostname", "rack", "state", "state_since", "created_at"]
    ordering = ["address"]
    lookup_value_regex = r"\d+"
    create_permission = "machines.add_machine"
    rights: ClassVar[dict[str, str]] = {
        "create": permissions.VIEW,
        "bulk": permissions.VIEW,
        "import_file": permissions.VIEW,
        "register": permissions.VIEW,
        "gather_facts_of": permissions.VIEW,
        "facts": permissions.VIEW,
        "transitions": permissions.VIEW,
        "transition": permissions.OPERATE,
        "gather_facts": permissions.OPERATE,
        "host_key": permissions.OPERATE,
    }

    def perform_create(self, serializer: BaseSerializer[Any]) -> None:
        with audit.entries_last():
            serializer.instance = self._add(dict(serializer.validated_data))
            facts.visit_new(machines=[serializer.instance], acting_user=self.request.user)

    def _add(self, values: dict[str, Any]) -> Machine:
        reason = values.pop("change_reason", "")
        if not values.get("owner_team"):
            values["owner_team"] = belonging.default_team(self.request.user)
        return edits.add(machine=Machine(**values), reason=reason, acting_user=self.request.user)

    def perform_update(self, serializer: BaseSerializer[Any]) -> None:
        values = dict(serializer.validated_data)
        reason = values.pop("change_reason", "")
        machine: Any = serializer.instance
        for name, value in values.items():
            setattr(machine, name, value)
        edits.change(machine=machine, fields=values, reason=reason, acting_user=self.request.user)

    def perform_destroy(self, instance: Machine) -> None:
        if not self.request.user.has_perm("machines.delete_machine"):
            raise Forbidden(
                _("Deleting needs the permission to delete machines; retire it instead.")
            )
        with audit.entries_last():
            removal.lock_for_deletion([instance.pk])
            super().perform_destroy(instance)

    @extend_schema(
        request=serializers.MachineSerializer(many=True),
        responses={201: serializers.MachineSerializer(many=True)},
        filters=False,
    )
    @action(detail=False, methods=["post"], pagination_class=None)
    def bulk(self, request: Request) -> Response:
        """Add up to a thousand machines: all of them, or none when one is wrong."""
        if not request.user.has_perm(self.create_permission or ""):
            raise Forbidden(_("Adding machines needs the permission to add machines."))
        given = self.get_serializer(data=request.data, many=True)
        given.is_valid(raise_exception=True)
        if len(given.validated_data) > CREATED_AT_ONCE:
            raise InvalidInput(
                _("At most %(count)s machines at once.") % {"count": CREATED_AT_ONCE}
            )
        with audit.entries_last():
            machines = [
                self._add_numbered(number, dict(values))
                for number, values in enumerate(given.validated_data)
            ]
            facts.visit_new(machines=machines, acting_user=request.user)
        return Response(
            self.get_serializer(machines, many=True).data, status=status.HTTP_201_CREATED
        )

    def _add_numbered(self, number: int, values: dict[str, Any]) -> Machine:
        """Say which of many is wrong."""
        try:
            return self._add(values)
        except InvalidInput as error:
            fields = {f"{number}.{name}": text for name, text in error.fields.items()}
            raise InvalidInput(f"{number}: {error.message}", fields=fields) from error

    @extend_schema(
        request=serializers.ActSerializer, responses=serializers.MachineSerializer, filters=False
    )
    @action(detail=True, methods=["post"])
    def transition(self, request: Request, pk: str) -> Response:
        """Change the state by hand; 409 with the reason when that is not possible."""
        machine = self.get_object()
        given = serializers.ActSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        values = given.validated_data
        if "action" in values:
            lifecycle.act(
                machine=machine,
                action=values["action"],
                reason=values["reason"],
                acting_user=request.user,
            )
        else:
            lifecycle.transition_by_hand(
                machine=machine,
                to=values["to"],
                reason=values["reason"],
                acting_user=request.user,
            )
        return Response(self.get_serializer(machine).data)

    @extend_schema(responses=serializers.TransitionSerializer(many=True), filters=False)
    @action(detail=True, pagination_class=None)
    def transitions(self, request: Request, pk: str) -> Response:
        """The last changes of state, newest first."""
        rows = self.get_object().status_changes.order_by("-at", "-id")[:HISTORY_AT_MOST]
        return Response(serializers.TransitionSerializer(rows, many=True).data)

    @extend_schema(responses=serializers.FactsSerializer, filters=False)
    @action(detail=True)
    def facts(self, request: Request, pk: str) -> Response:
        """What the last visit found; 404 before the first."""
        found = MachineFacts.objects.filter(machine=self.get_object()).first()
        if found is None:
            raise Http404
        return Response(serializers.FactsSerializer(found).data)

    @extend_schema(request=None, responses={202: serializers.GatheringSerializer}, filters=False)
    @action(detail=True, methods=["post"], url_path="gather-facts")
    def gather_facts(self, request: Request, pk: str) -> Response:
        """Have this machine visited soon."""
        return self._gather([self.get_object()])

    @extend_schema(
        operation_id="machines_gather_facts_of_many",
        request=serializers.MachinesSerializer,
        responses={202: serializers.GatheringSerializer},
        filters=False,
    )
    @action(detail=False, methods=["post"], url_path="gather-facts", pagination_class=None)
    def gather_facts_of(self, request: Request) -> Response:
        """Have many machines visited soon, or none: when you may not operate one of them (403), or
        there is no such machine that you may see (400).

        ``refused`` are those that cannot be visited, and why.
        """
        given = serializers.MachinesSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        keys = given.validated_data["machines"]
        rows = Machine.objects.select_related("credential").filter(pk__in=keys)
        machines = list(permissions.visible_to(request.user, rows))
        found = {machine.pk for machine in machines}
        unknown = [str(key) for key in dict.fromkeys(keys) if key not in found]
        if unknown:
            text = _("There is no machine %(keys)s, or you may not see it.")
            sentence = text % {"keys": ", ".join(unknown)}
            raise InvalidInput(sentence, fields={"machines": sentence})
        return self._gather(machines)

    def _gather(self, machines: list[Machine]) -> Response:
        asked = facts.request_gathering(machines=machines, acting_user=self.request.user)
        answer = {
            "accepted": [machine.pk for machine in asked.accepted],
            "refused": [{"machine": key, "message": text} for key, text in asked.refused.items()],
        }
        return Response(
            serializers.GatheringSerializer(answer).data, status=status.HTTP_202_ACCEPTED
        )

    @extend_schema(
        request=serializers.HostKeySerializer,
        responses=serializers.MachineSerializer,
        filters=False,
    )
    @action(detail=True, methods=["post"], url_path="host-key")
    def host_key(self, request: Request, pk: str) -> Response:
        """Accept or reject a changed host key."""
        machine = self.get_object()
        given = serializers.HostKeySerializer(data=request.data)
        given.is_valid(raise_exception=True)
        values = given.validated_data
        decide = host_keys.accept if values["decision"] == "accept" else host_keys.reject
        decide(
            machine=machine,
            shown=values["fingerprint"],
            reason=values["reason"],
            acting_user=request.user,
        )
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(
        request={"multipart/form-data": serializers.ImportSerializer},
        responses=serializers.ImportedSerializer,
        filters=False,
    )
    @action(
        detail=False,
        methods=["post"],
        url_path="import",
        parser_classes=[MultiPartParser],
        pagination_class=None,
    )
    def import_file(self, request: Request) -> Response:
        """Import a CSV or XLSX file: all rows, or none (400 with all mistakes)."""
        given = serializers.ImportSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        values = given.validated_data
        dataset = reading.read(values["file"].name, reading.content_of(values["file"]))
        resource = MachineResource(
            user=request.user,
            change_reason=values["change_reason"],
            file_name=values["file"].name,
        )
        result = resource.import_data(dataset, dry_run=values["dry_run"])
        mistakes = report.mistakes_of(result, dataset.headers)
        if mistakes and not values["dry_run"]:
            raise InvalidInput(
                _("Nothing was imported: the file has mistakes."),
                fields={
                    f"{each.line or 0}.{each.column or 'row'}": each.message for each in mistakes
                },
            )
        answer = {
            "is_applied": not values["dry_run"],
            "new": result.totals[RowResult.IMPORT_TYPE_NEW],
            "changed": result.totals[RowResult.IMPORT_TYPE_UPDATE],
            "unchanged": result.totals[RowResult.IMPORT_TYPE_SKIP],
            "mistakes": mistakes,
            "changes": report.changes_of(result),
        }
        return Response(serializers.ImportedSerializer(answer).data)

    @extend_schema(
        request=serializers.RegisterSerializer,
        responses=serializers.RegisteredSerializer,
        filters=False,
    )
    @action(detail=False, methods=["post"], pagination_class=None)
    def register(self, request: Request) -> Response:
        """Make machines of the nodes of a cluster that are none yet."""
        given = serializers.RegisterSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        values, user = given.validated_data, request.user
        visible = permissions.visible_to(user, Cluster.objects.all())
        cluster = _chosen(visible, values["cluster"], "cluster")
        nodes = registration.unregistered(cluster)
        if "nodes" in values:
            nodes = nodes.filter(name__in=values["nodes"])
        owner_team = _chosen(permissions.teams_of(user), values.get("owner_team"), "owner_team")
        credential = _chosen(belonging.credentials_of(user), values.get("credential"), "credential")
        with audit.entries_last():
            result = registration.register_nodes(
                cluster=cluster,
                nodes=list(nodes),
                acting_user=user,
                owner_team=owner_team,
                credential=credential,
            )
            facts.visit_new(machines=result.created, acting_user=user)
        answer = {
            "created": [machine.pk for machine in result.created],
            "linked": [machine.pk for machine in result.linked],
            "refused": result.refused,
        }
        return Response(serializers.RegisteredSerializer(answer).data)


class DriftViewSet(ReadOnlyViewSet):
    """Where machines differ from what is intended."""

    queryset = Drift.objects.select_related("machine")
    serializer_class = serializers.DriftSerializer
    filterset_class = filters.DriftFilter
    filter_backends = [DjangoFilterBackend, Ordering]
    ordering_fields = ["first_seen", "last_seen", "field", "machine"]
    ordering = ["-first_seen", "id"]
    lookup_value_regex = r"\d+"
    rights: ClassVar[dict[str, str]] = {
        "accept": permissions.CHANGE,
        "wrong": permissions.OPERATE,
    }

    @extend_schema(
        request=serializers.JudgeSerializer, responses=serializers.MachineSerializer, filters=False
    )
    @action(detail=True, methods=["post"])
    def accept(self, request: Request, pk: str) -> Response:
        """The observed value becomes the intended one; the difference is gone."""
        row, reason = self._judged(request)
        drift.accept(rows=[row], reason=reason, acting_user=request.user)
        machine = Machine.objects.select_related("cluster", "node").get(pk=row.machine_id)
        context = self.get_serializer_context()
        return Response(serializers.MachineSerializer(machine, context=context).data)

    @extend_schema(
        request=serializers.JudgeSerializer, responses=serializers.DriftSerializer, filters=False
    )
    @action(detail=True, methods=["post"])
    def wrong(self, request: Request, pk: str) -> Response:
        """The machine is wrong: the intended value stays."""
        row, reason = self._judged(request)
        drift.mark_wrong(rows=[row], reason=reason, acting_user=request.user)
        return Response(self.get_serializer(self.get_object()).data)

    def _judged(self, request: Request) -> tuple[Drift, str]:
        row: Drift = self.get_object()
        given = serializers.JudgeSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        row.observed = given.validated_data.get("observed", row.observed)
        return row, given.validated_data["reason"]


class CredentialViewSet(BaseViewSet):
    """SSH credentials; secrets are write-only."""

    queryset = SshCredential.objects.select_related("team")
    serializer_class = serializers.CredentialSerializer
    filterset_fields = {"name": ["exact", "in"], "team": ["exact", "isnull"]}
    search_fields = ["name", "user"]
    ordering_fields = ["name", "tested_at", "created_at"]
    ordering = ["name"]
    lookup_value_regex = r"\d+"
    create_permission = "machines.add_sshcredential"
    rights: ClassVar[dict[str, str]] = {
        "create": permissions.VIEW,
        "test": permissions.VIEW,
    }

    def perform_create(self, serializer: BaseSerializer[Any]) -> None:
        super().perform_create(serializer)
        self._test_when_asked(serializer)

    def perform_update(self, serializer: BaseSerializer[Any]) -> None:
        super().perform_update(serializer)
        self._test_when_asked(serializer)

    def _test_when_asked(self, serializer: BaseSerializer[Any]) -> None:
        """After the commit; a credential that fails its test stays, with the result beside it."""
        key = serializer.validated_data.get("test_machine")
        instance: Any = serializer.instance
        if key is None:
            return
        try:
            credentials.test(
                credential=instance, machine=self._machine(key), acting_user=self.request.user
            )
        except BeidouError as error:
            instance.test_result = error.message

    def _machine(self, key: int) -> Any:
        visible = permissions.visible_to(self.request.user, Machine.objects.all())
        return _chosen(visible, key, "machine")

    def perform_destroy(self, instance: Model) -> None:
        if not self.request.user.has_perm("machines.delete_sshcredential"):
            raise Forbidden(_("Deleting needs the permission to delete SSH credentials."))
        with audit.entries_last():
            audit.record("delete", instance, before=audit.snapshot(instance))
            instance.delete()

    @extend_schema(
        request=serializers.TestOnSerializer,
        responses=serializers.TestResultSerializer,
        filters=False,
    )
    @action(detail=True, methods=["post"])
    def test(self, request: Request, pk: str) -> Response:
        """Sign in at a machine with it and say how far that went."""
        credential = self.get_object()
        given = serializers.TestOnSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        machine = self._machine(given.validated_data["machine"])
        result = credentials.test(credential=credential, machine=machine, acting_user=request.user)
        return Response(serializers.TestResultSerializer(result).data)
