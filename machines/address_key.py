"""The column by which machines are sorted: their address by value, on every database.

SQLite keeps addresses as texts, among which 10.0.0.10 comes before 10.0.0.9.  The column holds the
same address so that its text sorts as the number does, IPv4 first; it follows the address whenever
that is written, and nothing else ever writes it.
"""

import ipaddress
from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:
    _CharField = models.CharField[str, str]
else:
    _CharField = models.CharField


def key_of(address: str) -> str:
    """A text that sorts by the value of ``address``."""
    found = ipaddress.ip_address(address)
    found = getattr(found, "ipv4_mapped", None) or found
    return f"{found.version}{found.packed.hex()}"


class AddressKey(_CharField):
    """``key_of`` the row's ``address``."""

    is_derived = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        fixed = {"max_length": 33, "default": "", "blank": True, "editable": False}
        super().__init__(*args, **{**kwargs, **fixed})

    def pre_save(self, model_instance: models.Model, add: bool) -> str:
        key = key_of(str(model_instance.address))  # type: ignore[attr-defined]
        setattr(model_instance, self.attname, key)
        return key
