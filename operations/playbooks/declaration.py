"""What a source says of its playbooks: the file ``beidou.yaml`` beside them, checked to the last
key.

A key that is not known is refused: who declares a limit must be able to rely on it.  The schema of
parameters is a part of JSON Schema, of which every keyword is enforced (see ``values``).
"""

import re
from typing import Any, Final, Literal, Self

import yaml
from django.utils.translation import gettext as _
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from beidou.base import permissions
from beidou.base.errors import InvalidInput
from beidou.base.sentences import Sentence
from beidou.base.storable import unstorable_in
from machines.models import Machine

FILE: Final = "beidou.yaml"
SIZE_MAX: Final = 256 << 10
STRICT: Final = ConfigDict(extra="forbid", strict=True)
STATES: Final = (
    Machine.State.AVAILABLE,
    Machine.State.IN_SERVICE,
    Machine.State.CORDONED,
    Machine.State.MAINTENANCE,
    Machine.State.FAULTY,
)
RIGHTS: Final = (permissions.OPERATE, permissions.CHANGE, permissions.APPROVE)
PARAMETERS_MAX: Final = 100
SECRET_LEAST: Final = 8
_NAME: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_VARIABLE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
_GROUP: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
# What decides where and how ansible runs, and what the portal itself gives.
_RESERVED: Final = re.compile(
    r"ansible_.*|beidou_.*|vault.*|inventory_.*|group(s|_names)|hostvars|play_hosts|playbook_dir|"
    r"role_(name|path|names)|omit|vars|environment|port|remote_user|connection|become.*|serial|"
    r"strategy|hosts|roles|tasks|handlers|name|no_log|when|with_.*|loop.*",
    re.IGNORECASE,
)

Type = Literal["string", "integer", "number", "boolean", "array", "object"]


class Part(BaseModel):
    """The schema of one value."""

    model_config = STRICT

    type: Type
    title: str = Field(default="", max_length=100)
    description: str = Field(default="", max_length=500)
    default: Any = None
    enum: list[Any] | None = Field(default=None, min_length=1, max_length=100)
    format: Literal["", "password"] = ""
    writeOnly: bool = False  # noqa: N815  JSON Schema's own name
    minimum: int | float | None = None
    maximum: int | float | None = None
    minLength: int | None = Field(default=None, ge=0)  # noqa: N815
    maxLength: int | None = Field(default=None, ge=0, le=100_000)  # noqa: N815
    pattern: str | None = Field(default=None, max_length=200)
    items: "Part | None" = None
    minItems: int | None = Field(default=None, ge=0)  # noqa: N815
    maxItems: int | None = Field(default=None, ge=0, le=1000)  # noqa: N815
    properties: "dict[str, Part] | None" = Field(default=None, max_length=PARAMETERS_MAX)
    required: list[str] = Field(default_factory=list, max_length=PARAMETERS_MAX)
    additionalProperties: bool = True  # noqa: N815

    @property
    def is_secret(self) -> bool:
        return self.writeOnly or self.format == "password"

    @field_validator("pattern")
    @classmethod
    def _is_pattern(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error:
            raise ValueError(Sentence("“%(text)s” is no pattern", text=value)) from None
        return value

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        wanted = {
            "minimum": ("integer", "number"), "maximum": ("integer", "number"),
            "minLength": ("string",), "maxLength": ("string",), "pattern": ("string",),
            "items": ("array",), "minItems": ("array",), "maxItems": ("array",),
            "properties": ("object",), "required": ("object",), "additionalProperties": ("object",),
            "format": ("string",), "writeOnly": ("string",),
        }  # fmt: skip
        for name, types in wanted.items():
            if name in self.model_fields_set and self.type not in types:
                raise ValueError(
                    Sentence(
                        "“%(name)s” means nothing with type %(type)s", name=name, type=self.type
                    )
                )
        _refuse_unknown(self.required, self.properties or {})
        for each in [*(self.properties or {}).values(), *([self.items] if self.items else [])]:
            if each.is_secret:
                raise ValueError(Sentence("a secret must be a parameter of its own"))
        if self.is_secret and (self.default is not None or self.enum):
            raise ValueError(Sentence("a secret has neither a default nor choices"))
        return self


class Parameters(BaseModel):
    """All parameters of one playbook: an object that takes these and no others."""

    model_config = STRICT

    type: Literal["object"] = "object"
    properties: dict[str, Part] = Field(default_factory=dict, max_length=PARAMETERS_MAX)
    required: list[str] = Field(default_factory=list, max_length=PARAMETERS_MAX)
    additionalProperties: Literal[False] = False  # noqa: N815

    @model_validator(mode="after")
    def _names_are_free(self) -> Self:
        for name in self.properties:
            if not _VARIABLE.fullmatch(name):
                raise ValueError(Sentence("“%(name)s” is no name of a variable", name=name))
            if _RESERVED.fullmatch(name):
                raise ValueError(Sentence("“%(name)s” belongs to Ansible or the portal", name=name))
        _refuse_unknown(self.required, self.properties)
        return self

    @property
    def secrets(self) -> list[str]:
        return [name for name, part in self.properties.items() if part.is_secret]


class Playbook(BaseModel):
    """One playbook that may be run."""

    model_config = STRICT

    name: str = Field(pattern=_NAME)
    playbook: str = Field(min_length=1, max_length=300)
    verify: str = Field(default="", max_length=300)
    title: str = Field(min_length=1, max_length=100)
    description: str = Field(default="", max_length=1000)
    permission: str = permissions.OPERATE
    changes_machines: bool = True
    destructive: bool = False
    idempotent: bool = True
    become: bool = True
    states: list[str] = Field(
        default_factory=lambda: [Machine.State.IN_SERVICE.value, Machine.State.CORDONED.value],
        min_length=1,
    )
    groups: dict[str, list[str]] = Field(default_factory=dict, max_length=50)
    serial: int = Field(default=0, ge=0, le=2000)
    max_failed_percent: int = Field(default=100, ge=0, le=100)
    machines_at_once: int = Field(default=0, ge=0, le=200)
    timeout_minutes: int = Field(default=60, ge=1, le=230)
    parameters: Parameters = Field(default_factory=Parameters)

    @field_validator("playbook", "verify")
    @classmethod
    def _is_inside(cls, value: str) -> str:
        parts = value.split("/")
        inside = not any(part in ("", ".", "..") for part in parts) and not value.startswith("-")
        if value and not (inside and value.endswith((".yml", ".yaml"))):
            raise ValueError(
                Sentence("“%(path)s” is no YAML file by its path in the source", path=value)
            )
        return value

    @field_validator("permission")
    @classmethod
    def _is_right(cls, value: str) -> str:
        return _one_of(value, RIGHTS)

    @field_validator("states")
    @classmethod
    def _are_states(cls, value: list[str]) -> list[str]:
        known = tuple(state.value for state in STATES)
        return [_one_of(each, known) for each in value]

    @field_validator("groups")
    @classmethod
    def _are_groups(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        for name in value:
            if not _GROUP.fullmatch(name) or name in ("all", "ungrouped"):
                raise ValueError(Sentence("“%(name)s” is no name of a group", name=name))
        return value


class Declaration(BaseModel):
    """The whole file."""

    model_config = STRICT

    version: Literal[1]
    playbooks: list[Playbook] = Field(min_length=1, max_length=200)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [each.name for each in self.playbooks]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(Sentence("there are two playbooks “%(name)s”", name=name))
        return self


def _refuse_unknown(required: list[str], known: dict[str, Part]) -> None:
    for name in required:
        if name not in known:
            raise ValueError(Sentence("required “%(name)s” is not among the properties", name=name))


def _one_of(value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(
            Sentence("“%(value)s” is none of %(known)s", value=value, known=", ".join(known))
        )
    return value


class _Loader(yaml.SafeLoader):
    """Plain values only: a reference can mean gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(_("references (*name) are not allowed"))
        return super().compose_node(parent, index)


def load(text: bytes) -> Any:
    """The YAML of the file; ``InvalidInput`` where it is none."""
    try:
        if len(text) > SIZE_MAX:
            raise ValueError(f"more than {SIZE_MAX} bytes")
        found = yaml.load(text.decode(), Loader=_Loader)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())[:300]
        raise InvalidInput(
            Sentence("%(file)s is no YAML: %(why)s", file=FILE, why=why), code="bad_declaration"
        ) from error
    for place in unstorable_in(found):
        sentence = Sentence(
            "%(file)s, %(place)s: holds a character that cannot be stored.", file=FILE, place=place
        )
        raise InvalidInput(sentence, code="bad_declaration")
    return found
