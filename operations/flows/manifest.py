"""The manifest ``AutoOperationTask``, as the platform's custom resource has it, and back.

Beside the article's fields ``templateVersion``, ``params``, ``reason``, ``user``, ``batch`` and
``priority`` may be given.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import yaml
from django.utils.translation import gettext as _
from pydantic import BaseModel, Field

from beidou.base import permissions
from beidou.base.errors import Conflict, InvalidInput
from beidou.base.models import User
from clusters.models import Cluster
from machines.models import Machine
from machines.services import selection
from operations.flows import catalog, graph, start
from operations.flows.library import finding
from operations.flows.models import AutoOperationTask, TaskMachine
from operations.models import Operation
from operations.services import manifests
from operations.services.manifests import STRICT, Applied, Document, Metadata

KIND = "AutoOperationTask"


class _Machine(BaseModel):
    model_config = STRICT
    name: str = Field(min_length=1, max_length=253)
    role: str = Field(default="", max_length=63)


class _Step(BaseModel):
    model_config = STRICT
    step: str = Field(min_length=1, max_length=40)


class _Batch(BaseModel):
    model_config = STRICT
    size: int = Field(default=0, ge=0, le=start.MACHINES_MAX)
    pauseSeconds: int = Field(default=0, ge=0, le=7 * 86400)  # noqa: N815
    stopAtFailedPercent: int = Field(default=100, ge=0, le=100)  # noqa: N815


class _Spec(BaseModel):
    model_config = STRICT
    cluster: str
    clusterType: str = ""  # noqa: N815  the manifest's own names
    operationIds: list[str] = Field(default_factory=list, max_length=10)  # noqa: N815
    operationTaskMachines: list[_Machine] = Field(  # noqa: N815
        min_length=1, max_length=start.MACHINES_MAX
    )
    replacedMachines: list[_Machine] = Field(  # noqa: N815
        default_factory=list, max_length=start.MACHINES_MAX
    )
    operationTaskStep: list[_Step] = Field(  # noqa: N815
        min_length=1, max_length=graph.STEPS_MAX
    )
    operationTaskType: str  # noqa: N815
    user: str = ""
    templateVersion: int = Field(default=0, ge=0, lt=1 << 31)  # noqa: N815
    params: dict[str, Any] = Field(default_factory=dict)
    reason: str = Field(default="", max_length=500)
    batch: _Batch = Field(default_factory=_Batch)
    priority: Literal["low", "normal", "high"] = "normal"


class _Manifest(BaseModel):
    model_config = STRICT
    apiVersion: str  # noqa: N815
    kind: str
    metadata: Metadata
    spec: _Spec


class TaskDocument(Document):
    """Makes a task."""

    typed = _Manifest

    def __init__(self, raw: Mapping[str, Any], prefix: str, acting_user: User) -> None:
        super().__init__(raw, prefix, acting_user)
        self.manifest: _Manifest = self.read()
        spec = self.manifest.spec
        self.asking = self.user(spec.user)
        self.target = self.cluster("spec.cluster", spec.cluster, self.asking)
        self._check_type(spec)
        if not self._is_of_the_site():
            self._steps(spec, self._template(spec))  # told before any document is applied
        self.places = {"batches": "spec.batch"}
        self.roles: dict[int, str] = {}
        self.machines = self._machines("operationTaskMachines", spec.operationTaskMachines)
        self.replaced = self._machines("replacedMachines", spec.replacedMachines)

    def _is_of_the_site(self) -> bool:
        """Whether there is such a task with a template of the site: it has steps of its own, and
        is compared with these, whatever has become of the template."""
        spec = self.manifest.spec
        rows = AutoOperationTask.objects.filter(
            name=self.manifest.metadata.name, template=spec.operationTaskType
        )
        if spec.operationTaskType in catalog.TEMPLATES or not rows.exists():
            return False
        self._check_ids(spec, spec.operationTaskType)
        return True

    def _check_type(self, spec: _Spec) -> None:
        """What the cluster's type is, is known here; it need only be one that there is."""
        if spec.clusterType and spec.clusterType not in Cluster.Type.values:
            sentence = _("“%(value)s” is none of %(known)s.") % {
                "value": spec.clusterType,
                "known": ", ".join(Cluster.Type.values),
            }
            raise self.refuse("spec.clusterType", sentence, code="unknown_type")

    def _template(self, spec: _Spec) -> catalog.Template:
        try:
            template = finding.template(spec.operationTaskType, spec.templateVersion or None)
        except InvalidInput as error:
            is_version = "template_version" in error.fields
            place = "spec.templateVersion" if is_version else "spec.operationTaskType"
            raise self.refuse(place, error.message, code=error.code) from error
        self._check_ids(spec, template.operation_id)
        return template

    def _check_ids(self, spec: _Spec, known: str) -> None:
        for index, name in enumerate(spec.operationIds):
            if name != known:
                sentence = _("%(type)s is “%(id)s”, not “%(name)s”.") % {
                    "type": spec.operationTaskType,
                    "id": known,
                    "name": name,
                }
                raise self.refuse(f"spec.operationIds[{index}]", sentence, code="unknown_id")

    def _steps(self, spec: _Spec, template: catalog.Template) -> list[graph.Spec]:
        for index, each in enumerate(spec.operationTaskStep):
            try:
                catalog.named(each.step)
            except InvalidInput as error:
                place = f"spec.operationTaskStep[{index}].step"
                raise self.refuse(place, error.message, code=error.code) from error
        names = [each.step for each in spec.operationTaskStep]
        try:
            return start.specs_of(template, steps=names, params=spec.params)
        except InvalidInput as error:
            name = next(iter(error.fields), "steps").replace("steps", "operationTaskStep", 1)
            raise self.refuse(
                f"spec.{name}", next(iter(error.fields.values()), error.message), code=error.code
            ) from error

    def _machines(self, field: str, named: Sequence[_Machine]) -> list[Machine]:
        """By address, hostname or serial number; each means one machine."""
        names = [each.name for each in named]
        found: list[Machine] = []
        for index, chosen in enumerate(selection.parse_each(names, user=self.asking)):
            place = f"spec.{field}[{index}]"
            if len(chosen.machines) != 1 or chosen.unknown:
                sentence = _("No machine you may use is called “%(name)s”.") % {
                    "name": names[index]
                }
                raise self.refuse(f"{place}.name", sentence, code="unknown_machine")
            machine = chosen.machines[0]
            if machine in found:
                sentence = _("%(address)s is listed twice.") % {"address": machine.address}
                raise self.refuse(f"{place}.name", sentence, code="twice")
            found.append(machine)
            self.places[str(machine.address)] = f"{place}.name"
            if role := named[index].role:
                self.roles[machine.pk] = role
        return found

    def apply(self) -> Applied:
        if (existing := self._existing()) is not None:
            return Applied(KIND, existing, is_new=False)
        try:
            task = self._start()
        except (Conflict, InvalidInput):
            # Perhaps the same manifest was applied in the same moment: then this one is satisfied.
            if (existing := self._existing()) is not None:
                return Applied(KIND, existing, is_new=False)
            raise
        return Applied(KIND, task, is_new=True)

    def _start(self) -> AutoOperationTask:
        spec = self.manifest.spec
        template = self._template(spec)
        specs = self._steps(spec, template)
        try:
            return start.start_task(
                cluster=self.target,
                machines=self.machines,
                specs=specs,
                template=spec.operationTaskType,
                version=template.version,
                params=spec.params,
                roles=self.roles,
                batches=_batches(spec),
                acting_user=self.asking,
                sent_by=self.caller,
                name=self.manifest.metadata.name,
                reason=spec.reason,
                priority=spec.priority,
                replaced=self.replaced,
            )
        except InvalidInput as error:
            raise self.placed(error, self.places) from error

    def _existing(self) -> AutoOperationTask | None:
        found = AutoOperationTask.objects.filter(name=self.manifest.metadata.name).first()
        if found is not None:
            self._refuse_other_content(found)
        return found

    def _refuse_other_content(self, existing: AutoOperationTask) -> None:
        """Same name, other wish: a task is a deed, it cannot be edited afterwards."""
        if not permissions.may(self.caller, existing):
            raise Conflict(
                _("The name “%(name)s” is taken by a task you may not see.")
                % {"name": existing.name},
                code="name_taken",
            )
        spec = self.manifest.spec
        batches = _batches(spec)
        old = TaskMachine.Group.OLD
        rows = existing.machines.values_list("machine_id", "address")
        there, gone = set(rows.exclude(group=old)), set(rows.filter(group=old))
        asked = {(machine.pk, str(machine.address)) for machine in self.machines}
        replaced = {(machine.pk, str(machine.address)) for machine in self.replaced}
        steps = list(existing.steps.order_by("position").values_list("name", flat=True))
        of_existing = start.Batches(
            existing.batch_size, existing.batch_pause, existing.max_failed_percent
        )
        differing = [
            name
            for name, is_same in (
                ("spec.cluster", existing.cluster_id == self.target.pk),
                ("spec.operationTaskType", existing.template == spec.operationTaskType),
                ("spec.operationTaskMachines", there == asked),
                ("spec.replacedMachines", gone == replaced),
                ("spec.operationTaskStep", steps == [each.step for each in spec.operationTaskStep]),
                (
                    "spec.templateVersion",
                    spec.templateVersion in (0, existing.template_version),
                ),
                ("spec.params", existing.params == spec.params),
                ("spec.batch", of_existing == batches),
            )
            if not is_same
        ]
        if differing:
            raise Conflict(
                f"{self.prefix}metadata.name: "
                + _(
                    "there is a task “%(name)s” already, and it differs in %(fields)s; choose "
                    "another name."
                )
                % {"name": existing.name, "fields": ", ".join(differing)},
                code="name_taken",
            )


def _batches(spec: _Spec) -> start.Batches:
    batch = spec.batch
    return start.Batches(batch.size, batch.pauseSeconds, batch.stopAtFailedPercent)


def as_manifest(task: AutoOperationTask) -> str:
    """The manifest that asks for the same as ``task`` did, under its name."""
    template = catalog.TEMPLATES.get(task.template)
    is_own = template is None and bool(task.template_version)
    rows = list(task.machines.order_by("pk").values_list("address", "role", "group"))
    machines: list[dict[str, str]] = [
        {"name": address, **({"role": role} if role else {})}
        for address, role, group in rows
        if group != TaskMachine.Group.OLD
    ]
    replaced = [
        {"name": address} for address, _role, group in rows if group == TaskMachine.Group.OLD
    ]
    spec: dict[str, Any] = {
        "cluster": task.cluster.name,
        "clusterType": task.cluster.type,
        "operationIds": [template.operation_id] if template else [],
        "operationTaskMachines": machines,
        **({"replacedMachines": replaced} if replaced else {}),
        "operationTaskStep": [
            {"step": name}
            for name in task.steps.order_by("position").values_list("name", flat=True)
        ],
        "operationTaskType": task.template,
        **({"templateVersion": task.template_version} if is_own else {}),
    }
    if task.params:
        spec["params"] = task.params
    if task.reason:
        spec["reason"] = task.reason
    if task.priority != Operation.Priority.NORMAL:
        spec["priority"] = task.priority
    if task.batch_size or task.batch_pause or task.max_failed_percent != 100:
        spec["batch"] = {
            "size": task.batch_size,
            "pauseSeconds": task.batch_pause,
            "stopAtFailedPercent": task.max_failed_percent,
        }
    document = {
        "apiVersion": "vcluster.caas.beidou.io/v1alpha1",
        "kind": KIND,
        "metadata": {"name": task.name},
        "spec": spec,
    }
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return text


manifests.DOCUMENTS[KIND] = TaskDocument
