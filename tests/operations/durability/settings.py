"""The portal's own settings, with this app that kills it."""

from beidou.settings import *  # noqa: F403
from beidou.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.operations.durability.apps.Durability"]
