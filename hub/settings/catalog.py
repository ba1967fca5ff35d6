"""The description of each setting: its names, its words and the form of its value."""

import functools
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import annotated_types
from pydantic.fields import FieldInfo

from hub.settings.fields import Fields
from hub.settings.tables import NamespaceChanges
from hub.settings.values import KEYS, SECRET, SIZE, SWITCH, ValueKind, choice, show_size

ENV_PREFIX = "HUB_"


class ValueSource(StrEnum):
    """The source of a value."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    FLAG = "flag"
    PYTHON = "python"


@dataclass(frozen=True, slots=True)
class SettingInfo:
    """A setting, described by its declaration."""

    name: str
    """The key in TOML and the argument in Python."""
    field: str
    """The attribute of `Settings`; differs from `name` only for `namespaces`."""
    group: str
    meaning: str
    kind: ValueKind
    allowed: str
    default: str
    """The default as an operator would write it, or the source that it is computed from."""

    @property
    def env(self) -> str:
        return ENV_PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def is_switch(self) -> bool:
        return self.kind is SWITCH

    @property
    def is_secret(self) -> bool:
        return self.kind in (KEYS, SECRET)

    def spelled(self, origin: ValueSource) -> str:
        """Return the setting's name as its source spells it."""
        return {
            ValueSource.FLAG: self.flag,
            ValueSource.ENVIRONMENT: self.env,
            ValueSource.FILE: f"{self.name} in the config file",
            ValueSource.PYTHON: self.name,
            ValueSource.DEFAULT: self.env,
        }[origin]


@functools.cache
def declared() -> tuple[SettingInfo, ...]:
    """Return every setting in the order of declaration."""
    return tuple(_describe(field, info) for field, info in Fields.model_fields.items())


@functools.cache
def by_name() -> Mapping[str, SettingInfo]:
    return MappingProxyType({info.name: info for info in declared()})


def namespace_allowed() -> dict[str, str]:
    """Return the allowed values of each option of a namespace, in words."""
    options = NamespaceChanges.model_fields
    return {name: _allowed(_kind(info), info) for name, info in options.items()}


def _describe(field: str, info: FieldInfo) -> SettingInfo:
    kind = _kind(info)
    # A callable is what pydantic allows besides; `setting()` in fields.py always gives a dict.
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    return SettingInfo(
        name=info.alias or field,
        field=field,
        group=str(extra["group"]),
        meaning=info.description or "",
        kind=kind,
        allowed=_allowed(kind, info),
        default=str(extra.get("default") or kind.show(info.default)),
    )


def _kind(info: FieldInfo) -> ValueKind:
    """Return the `ValueKind` in a field's metadata, also below an optional type."""
    for found in (*info.metadata, *_metadata(info.annotation)):
        if isinstance(found, ValueKind):
            return found
    return choice(*typing.get_args(info.annotation))  # a Literal needs no kind of its own


def _metadata(annotation: object) -> Iterator[object]:
    for part in typing.get_args(annotation):
        yield from getattr(part, "__metadata__", ())


def _allowed(kind: ValueKind, info: FieldInfo) -> str:
    """Return the kind's words and the range of the declaration."""
    low = next((m.ge for m in info.metadata if isinstance(m, annotated_types.Ge)), None)
    high = next((m.le for m in info.metadata if isinstance(m, annotated_types.Le)), None)
    if low is None or high is None:
        return kind.allowed
    show = show_size if kind is SIZE else _number
    return f"{kind.allowed} from {show(low)} to {show(high)}"


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and value > 65535 else str(value)
