"""Machines as rows of CSV and XLSX files: out, and in again.

Import has two halves.  The first reads every row, finds the machine it speaks of and reports all
differences and mistakes; it writes nothing and holds no transaction, so that a dry run of ten
thousand rows stops nobody else.  The second, short one writes what the first found, in one
transaction, with history.  A file of many rows costs a handful of queries because machines, teams
and credentials are read once.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Final

import tablib
from django.core.exceptions import ValidationError
from django.db import IntegrityError, models
from django.db.models import NOT_PROVIDED
from django.utils.translation import gettext as _
from import_export import resources, widgets
from import_export.fields import Field
from import_export.results import Result, RowResult
from simple_history.utils import bulk_create_with_history

from beidou.base import audit, permissions
from beidou.base.errors import Conflict, InvalidInput
from beidou.base.sentences import Sentence
from beidou.base.storable import is_storable
from clusters.models import Cluster
from machines.files import report
from machines.files.cells import (
    AddressWidget,
    CountWidget,
    DateWidget,
    LabelsWidget,
    NamedWidget,
    TextWidget,
    UuidWidget,
    address_in,
    is_filled,
    shows,
    text_of,
)
from machines.files.loader import CHUNK, MachineLoader, chunks
from machines.files.report import HEADING, UNCLEAR, Difference
from machines.models import Machine
from machines.services import belonging, drift, edits, facts, host_keys, lifecycle, signing

COLUMNS: Final = (
    "address", "hostname", "serial", "asset_tag", "system_uuid", "room", "rack", "position",
    "owner_team", "role", "labels", "notes", "warranty_until", "vendor", "model", "cpus",
    "memory_mib", "disks", "nics", "gpus", "os", "kernel", "credential", "state",
)  # fmt: skip
READ_ONLY: Final = ("cluster", "node")


STATES: Final = {
    **{value.casefold(): value for value in Machine.State.values},
    **{str(label).casefold(): value for value, label in Machine.State.choices},
}


def _wrong_heading(*sentences: str, code: str) -> InvalidInput:
    sentence = " ".join(sentences)
    return InvalidInput(sentence, code=code, fields={HEADING: sentence})


def _require_storable(row: dict[str, Any]) -> None:
    """A file says what no form and no request gets in; the database would not take it."""
    wrong = [name for name, cell in row.items() if isinstance(cell, str) and not is_storable(cell)]
    if wrong:
        sentence = _("This holds a character that cannot be stored.")
        raise ValidationError(dict.fromkeys(wrong, sentence))


def _stays(field: Field, instance: Machine, row: dict[str, Any]) -> bool:
    """Whether the row names the team or credential that the machine has at present: that was
    somebody's decision, even where the importing person could not make it."""
    if not isinstance(field.widget, NamedWidget):
        return False
    name, present = text_of(row, field.column_name), field.get_value(instance)
    return bool(name) and present is not None and present.name == name


def _is_as_exported(field: Field, instance: Machine, row: dict[str, Any]) -> bool:
    return (
        isinstance(field.widget, TextWidget)
        and bool(instance.pk)
        and (shows(row.get(field.column_name), field.get_value(instance)))
    )


class MachineResource(resources.ModelResource):  # type: ignore[misc]
    """``user`` acts; ``change_reason`` and ``file_name`` go into history and audit."""

    class Meta:
        model = Machine
        fields = (*COLUMNS, *READ_ONLY)
        export_order = (*COLUMNS, *READ_ONLY)
        import_order = COLUMNS
        import_id_fields: ClassVar[list[str]] = []
        instance_loader_class = MachineLoader
        use_bulk = True
        batch_size = None
        skip_unchanged = True
        report_skipped = True
        use_transactions = False

    address = Field("address", "address", widget=AddressWidget())
    system_uuid = Field("system_uuid", "system_uuid", widget=UuidWidget())
    cpus = Field("cpus", "cpus", widget=CountWidget())
    memory_mib = Field("memory_mib", "memory_mib", widget=CountWidget())
    labels = Field("labels", "labels", widget=LabelsWidget())
    warranty_until = Field("warranty_until", "warranty_until", widget=DateWidget())
    cluster = Field("cluster__name", "cluster", readonly=True)
    node = Field("node__name", "node", readonly=True)

    def __init__(self, user: Any, change_reason: str = "", file_name: str = "", **kwargs: Any):
        super().__init__(**kwargs)
        self.user, self.file_name = user, file_name
        self.reason = change_reason.strip() or (
            Sentence("import of %(file)s", file=file_name or Sentence("a file"))
        )
        for name in COLUMNS:
            field = self.fields[name]
            field.default = NOT_PROVIDED  # an empty cell empties the field
            if type(field.widget) in (widgets.CharWidget, widgets.Widget):
                field.widget = TextWidget()
        self.fields["owner_team"] = Field(
            "owner_team",
            "owner_team",
            widget=NamedWidget(
                permissions.teams_of(user), _("There is no team “%(name)s” that you belong to.")
            ),
        )
        self.fields["credential"] = Field(
            "credential",
            "credential",
            widget=NamedWidget(
                belonging.credentials_of(user),
                _("There is no credential “%(name)s” that you may use."),
            ),
        )
        self.fields["state"] = Field("state", "state", widget=TextWidget())
        self._transitions: dict[int, tuple[Machine, str, str]] = {}
        self._seen: dict[str, dict[str, int]] = {"address": {}, "serial": {}}
        self._changed: set[str] = set()
        self._moved: dict[int, set[str]] = {}  # machines that no operation may hold meanwhile
        self._read: dict[int, dict[str, Any]] = {}  # what the first half read, by key
        self._loader: MachineLoader | None = None
        self._default_team = belonging.default_team(user)

    @classmethod
    def get_diff_class(cls) -> type[Difference]:
        return Difference

    def get_queryset(self) -> models.QuerySet[Machine]:
        visible = permissions.visible_to(self.user, Machine.objects.all())
        return visible.select_related("owner_team", "credential", "cluster", "node")

    # --- first half: read and compare ---------------------------------------------------------
    def import_data(self, dataset: tablib.Dataset, dry_run: bool = False, **kwargs: Any) -> Result:
        """Both halves; with ``dry_run`` or after any mistake the first alone.

        ``agreed`` is the digest of the differences a person saw: the second half writes no others.
        """
        agreed = kwargs.pop("agreed", None)
        for unused in ("use_transactions", "rollback_on_validation_errors", "user", "file_name"):
            kwargs.pop(unused, None)
        raise_errors = kwargs.pop("raise_errors", False)
        collect = kwargs.pop("collect_failed_rows", False)
        result: Result = self.import_data_inner(
            dataset, True, raise_errors, False, collect, **kwargs
        )
        is_right = not result.has_errors() and not result.has_validation_errors()
        if not dry_run and is_right and agreed in (None, report.digest_of(result)):
            self._write(result)
            written = [*self.create_instances, *self.update_instances]
            facts.visit_imported(keys=[each.pk for each in written], acting_user=self.user)
        return result

    def before_import(self, dataset: tablib.Dataset, **kwargs: Any) -> None:
        """The rows are read whatever the heading is, and told of unless it leaves open what they
        say."""
        headers = [str(name or "").strip().lower() for name in dataset.headers or []]
        dataset.headers = headers
        known = [name for name in headers if name in (*COLUMNS, *READ_ONLY)]
        unclear: list[str] = []
        if double := sorted({name for name in known if known.count(name) > 1}):
            unclear.append(
                _("Line 1 names columns twice: %(names)s.") % {"names": ", ".join(double)}
            )
        if "address" not in known and "serial" not in known:
            unclear.append(_("Line 1 must name the column address or serial."))
        unknown = dict.fromkeys(name or "–" for name in headers if name not in known)
        if unknown:
            foreign = _(
                "Line 1 names columns that are not known: %(names)s. Known are: %(known)s."
            ) % {"names": ", ".join(unknown), "known": ", ".join(COLUMNS)}
            raise _wrong_heading(foreign, *unclear, code=UNCLEAR if unclear else "unknown_columns")
        if unclear:
            raise _wrong_heading(*unclear, code=UNCLEAR)

    def _check_import_id_fields(self, headers: list[str]) -> None:
        """A row names its machine by either of two columns, which ``before_import`` checked."""

    def import_row(
        self, row: dict[str, Any], instance_loader: MachineLoader, **kwargs: Any
    ) -> RowResult:
        """A row without anything in it is passed over and counts nowhere; the others keep their
        lines."""
        if not is_filled(row.values()):
            return self.get_row_result_class()()
        return super().import_row(row, instance_loader, **kwargs)

    def get_or_init_instance(
        self, instance_loader: MachineLoader, row: dict[str, Any]
    ) -> tuple[Machine, bool]:
        self._loader = instance_loader
        _require_storable(row)
        instance = instance_loader.get_instance(row)
        if instance is not None:
            if instance.pk not in instance_loader.changeable:
                raise ValidationError(
                    {"address": _("This is the address or serial number of a machine that you "
                                  "may not change.")}
                )  # fmt: skip
            return instance, False
        if not self.user.has_perm("machines.add_machine"):
            raise ValidationError(
                {"address": _("There is no such machine, and you may not add machines.")}
            )
        return Machine(owner_team=self._default_team), True

    def import_instance(self, instance: Machine, row: dict[str, Any], **kwargs: Any) -> None:
        if instance.pk:
            self._read[instance.pk] = _compared(instance)
        super().import_instance(instance, self._without_blanks_that_keep(instance, row), **kwargs)

    def _without_blanks_that_keep(self, instance: Machine, row: dict[str, Any]) -> dict[str, Any]:
        """Empty means empty, except where that would take the row's identity or place away, and a
        new machine has the role that new machines have."""
        kept = {"address", "state"} if instance.pk else {"role", "state"}
        if instance.pk is None and self._default_team is not None:
            kept.add("owner_team")
        return {name: v for name, v in row.items() if name not in kept or TextWidget().clean(v)}

    def import_field(
        self, field: Field, instance: Machine, row: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        if field.column_name == "state":
            self._plan_state(instance, row)
        elif not (_stays(field, instance, row) or _is_as_exported(field, instance, row)):
            super().import_field(field, instance, row, *args, **kwargs)

    def _plan_state(self, instance: Machine, row: dict[str, Any]) -> None:
        """A state in the file is a wish to go there by hand; the same rules decide."""
        text = text_of(row, "state")
        if not text:
            return
        to = STATES.get(text.casefold())
        if to is None:
            raise ValueError(_("“%(text)s” is no state of a machine.") % {"text": text})
        if to == instance.state:
            return
        if instance.pk and self._loader and instance.pk not in self._loader.operable:
            raise ValueError(_("You may not change the state of this machine."))
        refused = lifecycle.refusal(instance, to)
        if refused:
            raise ValueError(refused)
        self._transitions[id(instance)] = (instance, instance.state, to)
        instance.state = to  # for the comparison; put back before anything is written

    def validate_instance(
        self,
        instance: Machine,
        import_validation_errors: dict[str, Any] | None = None,
        validate_unique: bool = True,
    ) -> None:
        """``full_clean`` without its two queries per row: uniqueness is known from the loader."""
        errors: dict[str, Any] = dict(import_validation_errors or {})
        try:
            instance.clean_fields(exclude=[*errors, "cluster", "node", "owner_team", "credential"])
        except ValidationError as error:
            errors = error.update_error_dict(errors)
        if instance.pk is None and not self.user.is_superuser and instance.owner_team is None:
            errors.setdefault("owner_team", []).append(
                ValidationError(_("Choose one of your teams as the owner."))
            )
        if self._has_moved(instance):
            problem = belonging.new_address_problem(self.user, signing.credential_of(instance))
            if problem:
                errors.setdefault("address", []).append(ValidationError(problem))
        if problem := self._lost_credential_problem(instance):
            errors.setdefault("credential", []).append(ValidationError(problem))
        for name, sentence in self._taken(instance):
            errors.setdefault(name, []).append(ValidationError(sentence))
        if errors:
            raise ValidationError(errors)

    def _lost_credential_problem(self, instance: Machine) -> str | None:
        read = self._read.get(instance.pk)
        if read is None:
            return None
        stored = Machine(cluster=instance.cluster, credential_id=read["credential_id"])
        return edits.lost_credential_problem(self.user, stored, instance.credential)

    def _has_moved(self, instance: Machine) -> bool:
        read = self._read.get(instance.pk)
        return read is not None and str(read["address"]) != str(instance.address)

    def _taken(self, instance: Machine) -> Iterator[tuple[str, str]]:
        loader = self._loader
        owners = (
            (
                ("address", loader.by_address.get(str(instance.address))),
                ("serial", loader.by_serial.get(instance.serial)),
            )
            if loader
            else ()
        )
        for name, owner in owners:
            if owner is not None and owner.pk != instance.pk and getattr(instance, name):
                yield (
                    name,
                    _("“%(value)s” belongs to another machine already.")
                    % {"value": getattr(instance, name)},
                )

    def after_import_row(self, row: dict[str, Any], row_result: RowResult, **kwargs: Any) -> None:
        """Two lines about one machine contradict each other, whichever came first."""
        if row_result.import_type == RowResult.IMPORT_TYPE_UPDATE:
            changed = {name for name, _before, _after in row_result.diff} - {"state"}
            instance = row_result.original
            if refused := lifecycle.edit_refusal(instance, changed):
                place = min(changed & lifecycle.FIXED_WHILE_HELD)
                raise ValidationError({place: refused})
            if changed & lifecycle.FIXED_WHILE_HELD:
                self._moved[instance.pk] = changed
            self._changed |= changed
        line = kwargs["row_number"] + 1
        for name, seen in self._seen.items():
            text = text_of(row, name)
            text = address_in(text) if name == "address" else text
            if text and text in seen:
                raise ValidationError(
                    {name: _("“%(value)s” stands in line %(line)d already.")
                     % {"value": text, "line": seen[text]}}
                )  # fmt: skip
            if text:
                seen[text] = line

    def bulk_create(self, *args: Any, **kwargs: Any) -> None:
        """Nothing yet: ``_write`` does it when all rows are known to be right."""

    def bulk_update(self, *args: Any, **kwargs: Any) -> None:
        """See ``bulk_create``."""

    def bulk_delete(self, *args: Any, **kwargs: Any) -> None:
        """Import never deletes."""

    def do_instance_save(self, instance: Machine, is_create: bool) -> None:
        raise TypeError("Import writes in bulk.")

    # --- second half: write -------------------------------------------------------------------
    def _write(self, result: Result) -> None:
        """Raises ``Conflict`` when somebody changed meanwhile what the first half had seen."""
        wanted = list(self._transitions.values())
        for instance, old, _to in wanted:
            instance.state = old
        try:
            with audit.entries_last():
                self._write_rows()
                for instance, _old, to in wanted:
                    machine = Machine.objects.get(pk=instance.pk)
                    refused = lifecycle.refusal(machine, to)
                    if refused:
                        raise Conflict(refused, code="changed_meanwhile")
                    lifecycle.transition(machine=machine, to=to, reason=self.reason)
                for chunk in chunks(self.update_instances):
                    drift.refresh(chunk)
                if self.create_instances or self.update_instances:
                    self._record(result)
        except IntegrityError as error:
            raise Conflict(
                _("Somebody added one of these machines meanwhile; start the import again."),
                code="changed_meanwhile",
            ) from error

    def _write_rows(self) -> None:
        known: dict[str, Any] = {
            "batch_size": CHUNK,
            "default_user": self.user,
            "default_change_reason": self.reason,
        }
        if self.create_instances:
            bulk_create_with_history(self.create_instances, Machine, **known)
        if self.update_instances:
            self._update(self.update_instances)
            Machine.history.bulk_history_create(self.update_instances, update=True, **known)
            for machine in filter(self._has_moved, self.update_instances):
                host_keys.forget(machine=machine, reason=self.reason)

    def _update(self, machines: list[Machine]) -> None:
        """Write the columns that the file changes, and no other.

        An upsert by key: Django's ``bulk_update`` builds a CASE per column and row, which costs a
        minute for ten thousand rows.  It writes all these columns of each row, so that every row
        must be as the first half read it.
        """
        wanted = {machine.pk: machine for machine in machines}
        there = 0
        for chunk in chunks(sorted(wanted)):
            for stored in Machine.objects.select_for_update().filter(pk__in=chunk).order_by("pk"):
                self._require_as_read(stored)
                lifecycle.require_editable(stored, self._moved.get(stored.pk, ()))
                _bring_up_to_date(wanted[stored.pk], stored)
                there += 1
        if there != len(machines):
            raise Conflict(
                _("Somebody removed one of these machines meanwhile; start the import again."),
                code="changed_meanwhile",
            )
        if "address" in self._changed:
            self._changed.add("address_key")
        if self._changed:
            Machine.objects.bulk_create(
                machines,
                update_conflicts=True,
                unique_fields=["id"],
                update_fields=sorted(self._changed),
                batch_size=CHUNK,
            )

    def _require_as_read(self, stored: Machine) -> None:
        if _compared(stored) != self._read[stored.pk]:
            raise Conflict(
                _("Somebody changed %(machine)s meanwhile; start the import again.")
                % {"machine": stored},
                code="changed_meanwhile",
            )

    def _record(self, result: Result) -> None:
        """Entries per cluster, whose owners read them, and for machines without one: addresses,
        and the fields that changed.  The values before and after are in the history."""
        done = [
            *((machine, "added") for machine in self.create_instances),
            *zip(self.update_instances, _changed_fields(result), strict=True),
        ]
        clusters = Cluster.objects.in_bulk({m.cluster_id for m, _what in done if m.cluster_id})
        for cluster_id in sorted({m.cluster_id for m, _what in done}, key=lambda key: key or 0):
            own = [pair for pair in done if pair[0].cluster_id == cluster_id]
            for chunk in chunks(own):
                audit.record(
                    "import",
                    clusters.get(cluster_id),
                    name=self.file_name or "machines",
                    after={str(machine.address): what for machine, what in chunk},
                    reason=self.reason,
                )


def _compared(machine: Machine) -> dict[str, Any]:
    """What people decide about a machine, and its cluster, whose grants say who may."""
    fields = [*(name for name in COLUMNS if name != "state"), "cluster"]
    return {
        field.attname: getattr(machine, field.attname)
        for field in Machine._meta.concrete_fields
        if field.name in fields
    }


def _bring_up_to_date(machine: Machine, stored: Machine) -> None:
    """Take over what a file cannot change: host keys, for one, which the history holds too."""
    for field in Machine._meta.concrete_fields:
        if field.name not in COLUMNS:
            setattr(machine, field.attname, getattr(stored, field.attname))


def _changed_fields(result: Result) -> list[list[str]]:
    """What each changed row changes, in the order of the file."""
    return [
        [name for name, _before, _after in row.diff]
        for row in result.rows
        if row.import_type == RowResult.IMPORT_TYPE_UPDATE
    ]
