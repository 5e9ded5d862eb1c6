"""The YAML manifests of the platform's custom resources: read, checked and carried out.

A manifest is the resource as one would give it to Kubernetes (group ``vcluster.caas.*``).  Applying
is idempotent by name: what is there with the same content stays as it is.  Every mistake names the
path of the field, for example ``spec.operationMachines[0].ip``.

``operationFlow`` lists steps of the kind in their order, from the first one on.  Steps behind the
last listed one are done all the same: a ScaleUp of preCheck, scaleUp and postCheck opens the node
for scheduling afterwards, once it has been found ready.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from django.utils.translation import gettext as _
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from beidou.base import audit, permissions
from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.models import User
from beidou.base.storable import is_storable
from clusters.models import Cluster
from machines.models import Machine
from operations.kinds import base as kinds
from operations.kinds.base import Kind
from operations.models import Operation
from operations.services import references, start, wording

SIZE_MAX = 1 << 20
DOCUMENTS_MAX = 100
_API_VERSION = re.compile(r"vcluster\.caas\.[a-z0-9.-]+/v\d+((alpha|beta)\d+)?")
_NAME = r"^[a-z0-9]([a-z0-9.-]{0,98}[a-z0-9])?$"
STRICT = ConfigDict(extra="forbid", strict=True)


class Metadata(BaseModel):
    """What Kubernetes adds to every resource is allowed and has no meaning here."""

    name: str = Field(pattern=_NAME)
    namespace: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class _OperationMachine(BaseModel):
    model_config = STRICT
    ip: str
    role: str = ""

    @field_validator("ip")
    @classmethod
    def _is_address(cls, value: str) -> str:
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            raise ValueError(_("“%(text)s” is no IP address") % {"text": value}) from None


class _OperationSpec(BaseModel):
    """``params``, ``reason``, ``maxFailedPercent``, ``forks`` and ``priority`` may be left out, and
    ``operationMachines`` for kinds that are done on a whole cluster then."""

    model_config = STRICT
    clusterName: str  # noqa: N815  the manifest's own names
    operationType: str  # noqa: N815
    operationFlow: list[str] = Field(min_length=1, max_length=50)  # noqa: N815
    operationMachines: list[_OperationMachine] = Field(  # noqa: N815
        default_factory=list, max_length=start.MACHINES_MAX
    )
    user: str = ""
    params: dict[str, Any] = Field(default_factory=dict)
    reason: str = Field(default="", max_length=500)
    maxFailedPercent: int = Field(default=100, ge=0, le=100)  # noqa: N815
    forks: int = Field(default=10, ge=1, le=200)
    priority: Literal["low", "normal", "high"] = "normal"


class _OperationManifest(BaseModel):
    model_config = STRICT
    apiVersion: str  # noqa: N815
    kind: str
    metadata: Metadata
    spec: _OperationSpec


@dataclass(frozen=True)
class Applied:
    """What became of one document; ``is_new`` is false when it was there already."""

    kind: str
    row: Any
    is_new: bool


class _Loader(yaml.SafeLoader):
    """Plain values only: references can mean gigabytes, and a tag forces text into what it is
    not."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(_("references (*name) are not allowed"))
        if getattr(self.peek_event(), "tag", None):  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(_("tags (!name) are not allowed"))
        return super().compose_node(parent, index)

    def compose_scalar_node(self, anchor: Any) -> Any:
        node = super().compose_scalar_node(anchor)
        if not is_storable(node.value):
            raise yaml.YAMLError(_("a text holds a character that cannot be stored, such as NUL"))
        return node


def parse(text: str) -> list[dict[str, Any]]:
    """The documents of a YAML (or JSON, which is YAML) text."""
    if len(text) > SIZE_MAX:
        raise InvalidInput(
            _("A manifest has at most %(count)s characters.") % {"count": SIZE_MAX},
            code="too_large",
        )
    try:
        documents = [each for each in yaml.load_all(text, Loader=_Loader) if each is not None]  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInput(
            _("This is no YAML: %(reason)s.") % {"reason": _where(error)}, code="not_yaml"
        ) from error
    if not documents:
        raise InvalidInput(_("There is no document in it."), code="empty")
    if len(documents) > DOCUMENTS_MAX:
        raise InvalidInput(
            _("At most %(count)s documents at once.") % {"count": DOCUMENTS_MAX}, code="too_many"
        )
    for index, document in enumerate(documents):
        if not isinstance(document, dict):
            raise InvalidInput(
                _("Document %(number)s is no mapping with apiVersion, kind, metadata and spec.")
                % {"number": index + 1},
                code="not_a_manifest",
            )
    return documents


def _where(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return _("it is nested too deeply")
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error)
    text = " ".join(str(what).split())[:200]
    if mark is None:
        return text
    return _("%(what)s, line %(line)s, column %(column)s") % {
        "what": text,
        "line": mark.line + 1,
        "column": mark.column + 1,
    }


def apply(documents: Sequence[Mapping[str, Any]], *, acting_user: User) -> list[Applied]:
    """Carry out all of them or, when one is refused, none.

    1. Every document is read and checked, in the order given, before anything is written: the
       first mistake is told while nothing is locked.
    2. One transaction holds the machines of all of them and begins one after the other.
    """
    prefixes = [
        f"documents[{index}]." if len(documents) > 1 else "" for index in range(len(documents))
    ]
    checked = [
        _reader(document, prefix)(document, prefix, acting_user)
        for document, prefix in zip(documents, prefixes, strict=True)
    ]
    with audit.entries_last():
        start.lock([machine for document in checked for machine in document.machines])
        return [document.apply() for document in checked]


class Document:
    """One document, read and checked; ``apply`` does what it asks for.

    ``prefix`` leads every field path.
    """

    typed: type[BaseModel]
    machines: list[Machine]

    def __init__(self, raw: Mapping[str, Any], prefix: str, acting_user: User) -> None:
        self.raw = raw
        self.prefix = prefix
        self.caller = acting_user

    def apply(self) -> Applied:
        raise NotImplementedError

    def refuse(self, path: str, sentence: str, *, code: str) -> InvalidInput:
        return refused(self.prefix, path, sentence, code=code)

    def read(self) -> Any:
        known = {name: self.raw[name] for name in self.raw if name != "status"}
        try:
            return self.typed.model_validate(known)
        except ValidationError as error:
            fields = {
                f"{self.prefix}{_path(place)}": f"{sentence}."
                for place, sentence in wording.problems(error)
            }
            name, sentence = next(iter(fields.items()))
            raise InvalidInput(
                f"{name}: {sentence}", code="invalid_manifest", fields=fields
            ) from error

    def user(self, name: str) -> User:
        """Who asks for it: the caller; a superuser may name another."""
        if not name or name == self.caller.get_username():
            return self.caller
        if not self.caller.is_superuser:
            raise Forbidden(
                self.prefix
                + _(
                    "spec.user is “%(name)s”, but you are “%(caller)s”; only an administrator may "
                    "ask in the name of somebody else."
                )
                % {"name": name, "caller": self.caller.get_username()}
            )
        user = User.objects.filter(username=name, is_active=True).first()
        if user is None:
            sentence = _("There is no active user “%(name)s”.") % {"name": name}
            raise self.refuse("spec.user", sentence, code="unknown")
        return user

    def cluster(self, path: str, name: str, user: User) -> Cluster:
        visible = permissions.visible_to(user, Cluster.objects.filter(name=name))
        cluster = visible.first()
        if cluster is None:
            raise self.refuse(path, references.no_such_cluster(name), code="unknown_cluster")
        return cluster

    def placed(self, error: InvalidInput, places: Mapping[str, str]) -> InvalidInput:
        """The same error with the manifest's own paths; ``places`` names those of machines."""
        fields = {
            self.prefix + (places.get(name) or f"spec.{name}"): sentence
            for name, sentence in error.fields.items()
        }
        return InvalidInput(error.message, code=error.code, fields=fields)


def refused(prefix: str, path: str, sentence: str, *, code: str) -> InvalidInput:
    place = f"{prefix}{path}"
    return InvalidInput(f"{place}: {sentence}", code=code, fields={place: sentence})


class OperationDocument(Document):
    """Makes an operation."""

    typed = _OperationManifest

    def __init__(self, raw: Mapping[str, Any], prefix: str, acting_user: User) -> None:
        super().__init__(raw, prefix, acting_user)
        self.manifest: _OperationManifest = self.read()
        spec = self.manifest.spec
        self.asking = self.user(spec.user)
        self.target = self.cluster("spec.clusterName", spec.clusterName, self.asking)
        kind = self._kind(spec)
        self.machines, self.roles = self._machines(spec, self.asking, kind)

    def apply(self) -> Applied:
        if (existing := self._existing()) is not None:
            return Applied("Operation", existing, is_new=False)
        try:
            operation = self._start()
        except (Conflict, InvalidInput):
            # Perhaps the same manifest was applied in the same moment: then this one is satisfied.
            if (existing := self._existing()) is not None:
                return Applied("Operation", existing, is_new=False)
            raise
        return Applied("Operation", operation, is_new=True)

    def _existing(self) -> Operation | None:
        found = Operation.objects.filter(name=self.manifest.metadata.name).first()
        if found is not None:
            self._refuse_other_content(found, self.manifest, self.target)
        return found

    def _kind(self, spec: _OperationSpec) -> Kind:
        kind = kinds.KINDS.get(spec.operationType)
        if kind is None:
            raise self.refuse(
                "spec.operationType",
                _("There is no operation kind “%(name)s”; known are %(known)s.")
                % {"name": spec.operationType, "known": ", ".join(sorted(kinds.KINDS))},
                code="unknown_kind",
            )
        names = [step.name for step in kind.steps]
        for index, step in enumerate(spec.operationFlow):
            if step not in kind.step_names:
                raise self.refuse(
                    f"spec.operationFlow[{index}]",
                    _("%(kind)s has no step “%(step)s”; it has %(known)s.")
                    % {"kind": kind.name, "step": step, "known": ", ".join(names)},
                    code="unknown_step",
                )
            if index >= len(names) or step != names[index]:
                raise self.refuse(
                    f"spec.operationFlow[{index}]",
                    _(
                        "“%(step)s” is out of order; %(kind)s goes %(known)s, and no step may be "
                        "left out before another."
                    )
                    % {"step": step, "kind": kind.name, "known": ", ".join(names)},
                    code="wrong_order",
                )
        return kind

    def _machines(
        self, spec: _OperationSpec, user: User, kind: Kind
    ) -> tuple[list[Machine], dict[int, str]]:
        if not spec.operationMachines:
            return self._whole_cluster(kind, user), {}
        wanted = [each.ip for each in spec.operationMachines]
        rows = permissions.visible_to(user, Machine.objects.filter(address__in=wanted))
        known = {str(machine.address): machine for machine in rows.select_related("credential")}
        roles: dict[int, str] = {}
        for index, each in enumerate(spec.operationMachines):
            place = f"spec.operationMachines[{index}]"
            machine = known.get(each.ip)
            if machine is None:
                raise self.refuse(
                    f"{place}.ip",
                    _("No machine you may use has the address %(address)s.") % {"address": each.ip},
                    code="unknown_machine",
                )
            if each.ip in wanted[:index]:
                sentence = _("%(address)s is listed twice.") % {"address": each.ip}
                raise self.refuse(f"{place}.ip", sentence, code="twice")
            if each.role and each.role not in kind.roles:
                raise self.refuse(
                    f"{place}.role",
                    _("%(kind)s knows the roles %(roles)s, not “%(role)s”.")
                    % {"kind": kind.name, "roles": ", ".join(kind.roles), "role": each.role},
                    code="unknown_role",
                )
            if each.role:
                roles[machine.pk] = each.role
        return [known[address] for address in wanted], roles

    def _whole_cluster(self, kind: Kind, user: User) -> list[Machine]:
        if self._existing() is not None:
            return []  # it was begun with those that there were then
        try:
            return start.machines_of(kind.name, self.target, user=user)
        except InvalidInput as error:
            raise self.refuse("spec.operationMachines", error.message, code=error.code) from error

    def _refuse_other_content(
        self, existing: Operation, manifest: _OperationManifest, cluster: Cluster
    ) -> None:
        """Same name, other wish: an operation is a deed, it cannot be edited afterwards."""
        if not permissions.may(self.caller, existing):
            raise Conflict(
                _("The name “%(name)s” is taken by an operation you may not see.")
                % {"name": existing.name},
                code="name_taken",
            )
        spec = manifest.spec
        there = {
            str(address): role for address, role in existing.machines.values_list("address", "role")
        }
        asked = {each.ip: each.role or there.get(each.ip, "") for each in spec.operationMachines}
        kind = kinds.get(existing.kind)
        is_whole = kind.whole_cluster and not asked
        differing = [
            name
            for name, is_same in (
                ("spec.clusterName", existing.cluster_id == cluster.pk),
                ("spec.operationType", existing.kind == spec.operationType),
                ("spec.operationMachines", there == asked or is_whole),
                ("spec.params", _same_params(kind, existing.params, spec.params)),
                ("spec.maxFailedPercent", existing.max_failed_percent == spec.maxFailedPercent),
                ("spec.forks", existing.forks == spec.forks),
            )
            if not is_same
        ]
        if differing:
            raise Conflict(
                f"{self.prefix}metadata.name: "
                + _(
                    "there is an operation “%(name)s” already, and it differs in %(fields)s; "
                    "choose another name."
                )
                % {"name": existing.name, "fields": ", ".join(differing)},
                code="name_taken",
            )

    def _start(self) -> Operation:
        spec = self.manifest.spec
        try:
            return start.start_operation(
                kind=spec.operationType,
                cluster=self.target,
                machines=self.machines,
                roles=self.roles,
                params=spec.params,
                acting_user=self.asking,
                sent_by=self.caller,
                name=self.manifest.metadata.name,
                reason=spec.reason,
                max_failed_percent=spec.maxFailedPercent,
                forks=spec.forks,
                priority=spec.priority,
            )
        except InvalidInput as error:
            places = {each.ip: f"spec.operationMachines[{i}].ip" for i, each in enumerate(
                spec.operationMachines)}  # fmt: skip
            raise self.placed(error, places) from error


# What reads which kind of document; the flows above operations add theirs.
DOCUMENTS: dict[str, type[Document]] = {"Operation": OperationDocument}


def _reader(raw: Mapping[str, Any], prefix: str) -> type[Document]:
    version = raw.get("apiVersion")
    if not isinstance(version, str) or not _API_VERSION.fullmatch(version):
        sentence = _("Must look like vcluster.caas.GROUP/v1alpha1.")
        raise refused(prefix, "apiVersion", sentence, code="unknown_version")
    kind = raw.get("kind")
    if not isinstance(kind, str) or kind not in DOCUMENTS:
        raise refused(
            prefix,
            "kind",
            _("Kind not supported yet: “%(kind)s”; supported: %(known)s.")
            % {"kind": kind, "known": ", ".join(DOCUMENTS)},
            code="unsupported_kind",
        )
    return DOCUMENTS[kind]


def _same_params(kind: Kind, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    try:
        typed = start.parse_params(kind, asked)
        if kind.is_same is not None:
            return kind.is_same(stored, typed)
        return bool(typed.model_dump(mode="json") == stored)
    except InvalidInput:
        return False


def _path(parts: Sequence[int | str]) -> str:
    """("spec", "operationMachines", 0, "ip") -> spec.operationMachines[0].ip"""
    return "".join(_pieces(parts)).lstrip(".")


def _pieces(parts: Sequence[int | str]) -> Iterator[str]:
    for part in parts:
        yield f"[{part}]" if isinstance(part, int) else f".{part}"


def as_manifest(operation: Operation) -> str:
    """The manifest that asks for the same as ``operation`` did, under its name."""
    spec: dict[str, Any] = {
        "clusterName": operation.cluster.name,
        "operationType": operation.kind,
        "operationFlow": list(operation.steps.order_by("position").values_list("name", flat=True)),
        "operationMachines": [
            {"ip": address, "role": role}
            for address, role in operation.machines.order_by("pk").values_list("address", "role")
        ],
        "user": operation.requested_by_name,
    }
    if operation.params:
        spec["params"] = operation.params
    if operation.reason:
        spec["reason"] = operation.reason
    spec |= {"maxFailedPercent": operation.max_failed_percent, "forks": operation.forks}
    if operation.priority != Operation.Priority.NORMAL:
        spec["priority"] = operation.priority
    document = {
        "apiVersion": "vcluster.caas.beidou.io/v1alpha1",
        "kind": "Operation",
        "metadata": {"name": operation.name},
        "spec": spec,
    }
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return text
