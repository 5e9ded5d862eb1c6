"""What the deeds in the audit trail, and the programs that do some, are called on pages.

Stored they are English, for filters and programs.
"""

from django.utils.translation import gettext, gettext_noop

_CALLED = {
    "refresh_capabilities": gettext_noop("refresh capabilities"),
    "replace_credential": gettext_noop("replace credential"),
}
"""Verbs that are stored otherwise than people say them."""

VERBS = frozenset(
    {
        *_CALLED,
        gettext_noop("accept drift"),
        gettext_noop("accept host key"),
        gettext_noop("add"),
        gettext_noop("adopt"),
        gettext_noop("answer from outside"),
        gettext_noop("approve"),
        gettext_noop("break glass"),
        gettext_noop("cancel"),
        gettext_noop("change"),
        gettext_noop("change priority"),
        gettext_noop("change state"),
        gettext_noop("confirm password"),
        gettext_noop("cluster deleted"),
        gettext_noop("cordon"),
        gettext_noop("create cluster"),
        gettext_noop("create token"),
        gettext_noop("delete"),
        gettext_noop("delete cluster"),
        gettext_noop("export"),
        gettext_noop("finish cluster"),
        gettext_noop("forget host key"),
        gettext_noop("gather facts"),
        gettext_noop("grant"),
        gettext_noop("host key changed"),
        gettext_noop("import"),
        gettext_noop("link node"),
        gettext_noop("lock out"),
        gettext_noop("mark drift as wrong"),
        gettext_noop("offer template"),
        gettext_noop("pause"),
        gettext_noop("pin host key"),
        gettext_noop("read"),
        gettext_noop("read playbooks"),
        gettext_noop("refused"),
        gettext_noop("reject"),
        gettext_noop("reject host key"),
        gettext_noop("release playbooks"),
        gettext_noop("renew backup codes"),
        gettext_noop("restore events"),
        gettext_noop("resume"),
        gettext_noop("retry"),
        gettext_noop("revoke"),
        gettext_noop("revoke token"),
        gettext_noop("rotate secrets"),
        gettext_noop("save version"),
        gettext_noop("send again"),
        gettext_noop("send test message"),
        gettext_noop("set password"),
        gettext_noop("sign in"),
        gettext_noop("sign out"),
        gettext_noop("stop schedule"),
        gettext_noop("switch second factor off"),
        gettext_noop("switch second factor on"),
        gettext_noop("take over"),
        gettext_noop("task rejected"),
        gettext_noop("test credential"),
        gettext_noop("unadopt"),
        gettext_noop("uncordon"),
        gettext_noop("unlink node"),
        gettext_noop("unlock"),
        gettext_noop("withdraw approval"),
        gettext_noop("withdraw playbooks"),
        gettext_noop("withdraw template"),
    }
)
PATTERNS = {
    "start": gettext_noop("start %(what)s"),
    "skip": gettext_noop("skip %(what)s"),
    "operation": gettext_noop("operation %(what)s"),
    "task": gettext_noop("task %(what)s"),
}
"""Verbs that name what they are about: a kind, a step, or how an operation ended."""
_ENDS = {
    "succeeded": gettext_noop("succeeded"),
    "failed": gettext_noop("failed"),
    "partial": gettext_noop("partly failed"),
    "canceled": gettext_noop("canceled"),
}


def shown(verb: str) -> str:
    """The stored ``verb`` in the language of the reader."""
    if verb in VERBS:
        return gettext(_CALLED.get(verb, verb))
    first, _space, what = verb.partition(" ")
    if first not in PATTERNS:
        return verb
    return gettext(PATTERNS[first]) % {"what": gettext(_ENDS[what]) if what in _ENDS else what}


PROGRAMS = frozenset(
    {
        gettext_noop("anonymous"),
        gettext_noop("collector"),
        gettext_noop("fact gathering"),
        gettext_noop("inventory"),
        gettext_noop("system"),
    }
)
"""Who acts where no person does; see ``context``."""


def actor(name: str) -> str:
    """Whoever did it, in the language of the reader; people and commands are called as they are."""
    return gettext(name) if name in PROGRAMS else name
