"""The text of a kubeconfig as plain texts, lists and mappings, and the refusal of what is none.

Every scalar stays text: a token of digits is no number, and no odd date can raise.  Nothing of the
text is quoted except the names of contexts, clusters and users.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import yaml

from beidou.base.errors import InvalidInput
from beidou.base.sentences import Sentence
from clusters.drivers import yaml_text

SIZE_LIMIT = 1024 * 1024
DEPTH_LIMIT = 20

_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_EMPTY: tuple[object, ...] = (None, "", "null", "~", {}, [])


def load(text: str) -> Mapping[str, Any]:
    """The text as a mapping of texts, lists and mappings."""
    if len(text.encode("utf-8", "replace")) > SIZE_LIMIT:
        raise refuse("kubeconfig_too_large", Sentence("The kubeconfig is larger than 1 MiB."))
    try:
        _refuse_bombs(text)
        config = yaml.load(text, Loader=_LOADER)  # noqa: S506 - a base loader makes only texts
    except yaml.YAMLError as error:
        # The error's own text quotes the file and with it, perhaps, a key.
        mark = getattr(error, "problem_mark", None)
        where = " " + Sentence("(line %(line)d)", line=mark.line + 1) if mark else ""
        raise refuse(
            "kubeconfig_not_yaml", Sentence("The text is not valid YAML%(where)s.", where=where)
        ) from None
    if not isinstance(config, dict):
        raise refuse(
            "kubeconfig_not_mapping",
            Sentence(
                "The text is not a kubeconfig: it has no keys such as clusters, users and contexts."
            ),
        )
    kind = config.get("kind")
    if kind != "Config":
        found = f"“{kind}”" if isinstance(kind, str) and kind else Sentence("missing")
        raise refuse(
            "kubeconfig_wrong_kind",
            Sentence(
                "The text is not a kubeconfig: its kind is %(found)s instead of “Config”.",
                found=found,
            ),
        )
    return config


def _refuse_bombs(text: str) -> None:
    """Aliases make a small text huge, deep nesting exhausts the reader; neither is ever needed."""
    trap = yaml_text.trap(text, depth_limit=DEPTH_LIMIT, loader=_LOADER)
    if trap == yaml_text.ALIAS:
        raise refuse(
            "kubeconfig_yaml_alias",
            Sentence("The kubeconfig uses YAML aliases (*name); write the values out."),
        )
    if trap:
        raise refuse(
            "kubeconfig_too_deep",
            Sentence(
                "The kubeconfig is nested more than %(limit)s levels deep.", limit=DEPTH_LIMIT
            ),
        )


def named_entries(
    config: Mapping[str, Any], plural: str, singular: str
) -> dict[str, Mapping[str, Any]]:
    """The named entries of one of the three lists."""
    items = given(config, plural) or []
    if not isinstance(items, list):
        raise refuse(
            "kubeconfig_malformed",
            Sentence("“%(plural)s” in the kubeconfig is not a list.", plural=plural),
        )
    entries: dict[str, Mapping[str, Any]] = {}
    for item in items:
        name = item.get("name") if isinstance(item, dict) else None
        body = (given(item, singular) or {}) if isinstance(item, dict) else None
        if not isinstance(name, str) or not isinstance(body, dict):
            raise refuse(
                "kubeconfig_malformed",
                Sentence(
                    "An entry of “%(plural)s” in the kubeconfig lacks its name or its "
                    "%(singular)s.",
                    plural=plural,
                    singular=singular,
                ),
            )
        entries.setdefault(name, body)  # kubectl, too, takes the first of a name
    return entries


def choose_context(
    config: Mapping[str, Any], contexts: Mapping[str, object], wanted: str | None
) -> str:
    known = ", ".join(contexts)
    if not contexts:
        raise refuse("kubeconfig_no_context", Sentence("The kubeconfig contains no context."))
    name = wanted or text_of(config, "current-context")
    if name is None:
        if len(contexts) == 1:
            return next(iter(contexts))
        raise refuse(
            "kubeconfig_no_context",
            Sentence(
                "The kubeconfig has no current context; choose one of: %(known)s.", known=known
            ),
            "context",
        )
    if name not in contexts:
        raise refuse(
            "kubeconfig_unknown_context",
            Sentence(
                "The kubeconfig has no context “%(name)s”; it has: %(known)s.",
                name=name,
                known=known,
            ),
            "context",
        )
    return name


def given(mapping: Mapping[str, Any], key: str) -> Any:
    """The value of a key; None for the ways of YAML to say that there is none."""
    value = mapping.get(key)
    return None if value in _EMPTY else value


def text_of(mapping: Mapping[str, Any], key: str) -> str | None:
    value = given(mapping, key)
    if value is not None and not isinstance(value, str):
        raise refuse(
            "kubeconfig_malformed", Sentence("“%(key)s” in the kubeconfig is not a text.", key=key)
        )
    return value


def pem_of(mapping: Mapping[str, Any], key: str) -> str | None:
    """The decoded text of one of the ``…-data`` keys."""
    value = text_of(mapping, key)
    return None if value is None else decode(value, key, "kubeconfig")


def decode(value: str, name: str, field_name: str) -> str:
    try:
        return base64.b64decode("".join(value.split()), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise refuse(
            "kubeconfig_bad_base64",
            Sentence("The %(name)s is not valid base64 of a PEM text.", name=name),
            field_name,
        ) from None


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def refuse(code: str, sentence: str, field_name: str = "kubeconfig") -> InvalidInput:
    return InvalidInput(sentence, code=code, fields={field_name: sentence})
