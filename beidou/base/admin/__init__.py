"""The admin: the bases that every app uses, and the pages of people and audit."""

from beidou.base.admin.bases import (
    EmptyList,
    ObjectPermissionAdmin,
    ReadOnlyAdmin,
    ago_column,
    confirm_action,
)

# Registers the pages; after the bases, which they use.
from beidou.base.admin import people, trail  # noqa: F401  isort: skip

__all__ = ["EmptyList", "ObjectPermissionAdmin", "ReadOnlyAdmin", "ago_column", "confirm_action"]
