"""The name of a namespace, as a parameter of a kind."""

import re
from typing import Annotated

from django.utils.translation import gettext
from pydantic import AfterValidator, Field

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def _is_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(
            gettext("“%(text)s” is no name of a namespace; write a-z, 0-9 and - within")
            % {"text": value}
        )
    return value


Namespace = Annotated[str, Field(max_length=63), AfterValidator(_is_name)]
