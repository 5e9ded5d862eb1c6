"""Which machine a row speaks of, for all rows of a file in a few queries."""

from collections.abc import Iterator
from typing import Any, Final

import tablib
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from import_export.instance_loaders import BaseInstanceLoader

from beidou.base import permissions
from beidou.base.storable import is_storable
from machines.files.cells import TextWidget, address_in, text_of
from machines.models import Machine

CHUNK: Final = 500


class MachineLoader(BaseInstanceLoader):  # type: ignore[misc]
    """Finds the machine of a row: by address, or by serial number when that leads further."""

    def __init__(self, resource: Any, dataset: tablib.Dataset) -> None:
        super().__init__(resource, dataset)
        self.by_address: dict[str, Machine] = {}
        self.by_serial: dict[str, Machine] = {}
        rows = Machine.objects.select_related("owner_team", "credential", "node")
        for field, known in (("address", self.by_address), ("serial", self.by_serial)):
            for chunk in chunks(list(_column(dataset, field))):
                for machine in rows.filter(**{f"{field}__in": chunk}):
                    machine = self._same(machine)
                    known[str(getattr(machine, field))] = machine
        keys = {machine.pk for machine in [*self.by_address.values(), *self.by_serial.values()]}
        self.changeable = _allowed(resource.user, keys, permissions.CHANGE)
        self.operable = _allowed(resource.user, keys, permissions.OPERATE)

    def _same(self, machine: Machine) -> Machine:
        """One object per machine, however it was found."""
        for known in (
            self.by_address.get(str(machine.address)),
            self.by_serial.get(machine.serial),
        ):
            if known is not None and known.pk == machine.pk:
                return known
        return machine

    def get_instance(self, row: dict[str, Any]) -> Machine | None:
        address, serial = text_of(row, "address"), text_of(row, "serial")
        by_address = self.by_address.get(address_in(address)) if address else None
        by_serial = self.by_serial.get(serial) if serial else None
        if by_address and by_serial and by_address.pk != by_serial.pk:
            raise ValidationError(
                {"serial": _("The serial number %(serial)s belongs to the machine %(other)s.")
                 % {"serial": serial, "other": by_serial}}
            )  # fmt: skip
        return by_address or by_serial


def _allowed(user: Any, keys: set[int], action: str) -> set[int]:
    visible = permissions.visible_to(user, Machine.objects.all(), action)
    found: set[int] = set()
    for chunk in chunks(list(keys)):
        found |= set(visible.filter(pk__in=chunk).values_list("pk", flat=True))
    return found


def chunks(items: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


def _column(dataset: tablib.Dataset, name: str) -> set[str]:
    if name not in (dataset.headers or []):
        return set()
    texts = (TextWidget().clean(value) for value in dataset[name])
    if name == "address":
        texts = (address_in(text) for text in texts)
    return {text for text in texts if text and is_storable(text)}
