"""The engine's side of a step."""

from typing import Any

from operations.kinds.base import Stopped
from operations.kinds.draining.leaving import Leaving
from operations.kinds.scale_down import ScaleDownParams
from operations.models import Operation

OPERATION = Operation(pk=17)


class Run:
    """The engine's side of a step, kept in lists."""

    def __init__(self, **params):
        self.params = ScaleDownParams(**{"on_blocked": "wait", **params})
        self.operation = OPERATION
        self.lines, self.notes, self.failed = [], [], {}
        self.is_stopped = False

    def say(self, text, *, target=None, level="info"):
        self.lines.append(text)

    def note(self, target, message):
        self.notes.append(message)

    def fail(self, target, message, *, evidence=None, checks=()):
        self.failed[target] = (message, list(checks))

    def stop_if_asked(self):
        if self.is_stopped:
            raise Stopped("canceled")

    def said(self, text):
        return any(text in line for line in self.lines)

    def noted(self, text):
        return any(text in note for note in self.notes)


def leaves(node: Any = "n1", before=None):
    return Leaving(node, node, before=before or {})
