"""``manage.py work``: django-q2's cluster, none of whose processes outlives the main one.

A SIGKILL of ``qcluster`` leaves its sentinel, pusher and workers behind, and they go on taking
tasks.  Here every process that is forked asks the kernel to be killed with its parent.
"""

import os
from typing import Any

from django_q.management.commands.qcluster import Command as QueueCommand

from beidou.base.supervisor import die_with_parent

_parent = 0


def _remember_parent() -> None:
    global _parent  # noqa: PLW0603  the fork hooks have no other way to pass it
    _parent = os.getpid()


def _follow_parent() -> None:
    die_with_parent()
    if os.getppid() != _parent:  # it died before the kernel was asked
        os._exit(1)


class Command(QueueCommand):  # type: ignore[misc]
    help = "Run the steps of operations and the periodic work."

    def handle(self, *args: Any, **options: Any) -> None:
        os.register_at_fork(before=_remember_parent, after_in_child=_follow_parent)
        super().handle(*args, **options)
