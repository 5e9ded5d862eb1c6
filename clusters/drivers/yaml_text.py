"""YAML of others: what a small text may do to whoever reads it.

libyaml builds nested collections by recursion in C without a limit, and Python's own reader has
one of a thousand: a text of brackets ends the process, or raises where nobody expects it.
"""

from typing import Any

import yaml

ALIAS, DEPTH = "alias", "depth"


def trap(text: str, *, depth_limit: int, loader: Any) -> str:
    """``alias``: it uses aliases, which make a small text huge.  ``depth``: it is nested deeper
    than ``depth_limit``.  Empty for neither.  Reads events only, and raises ``YAMLError``."""
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.AliasEvent):
            return ALIAS
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > depth_limit:
            return DEPTH
    return ""
