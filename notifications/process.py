"""The forked process of the messenger: until SIGTERM."""

from beidou.base import companions
from notifications.services.messenger import Messenger


def main() -> None:
    companions.serve(Messenger().run)
