"""The admin pages of machines."""

from machines.admin.credential import CredentialAdmin
from machines.admin.drift import DriftAdmin
from machines.admin.machine import MachineAdmin

__all__ = ["CredentialAdmin", "DriftAdmin", "MachineAdmin"]
