"""
Tables of a configuration file as structs: what they may hold, and how they are read.

The file is a `Table`, and so is each table in it. A list of tables such as ``[[sources]]`` is a field of type
``tuple[File | Tail, ...]``, where each of the tables has a tag, the value of its key ``type``:

    class Tail(Table, frozen=True, tag="tail"):
        path: AbsolutePath

A type of our own is read by its class method `parse`, which takes any object and raises ValueError with the right form;
its attribute `text` is a form that `parse` accepts. A text that stands for a number or a boolean is read as such,
because variables and flags have no types.

Always true: what does not fit is a `Misfit` (hub.service.misfit). An unknown key does not fit.

Not here: the keys of the hub (hub.service.config), files and variables (hub.service.settings).
Source: TOML 1.0; msgspec's documentation, "Structs" (tagged unions) and "Extending" (dec_hook).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import NoneType
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin

import msgspec

from hub.service.misfit import explained

T = TypeVar("T")
TableT = TypeVar("TableT", bound="Table")
_IS_LIVE = msgspec.Meta(extra={"is_live": True})
Live = Annotated[T, _IS_LIVE]
"""The type of a setting that a reload can change."""


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the configuration file. An unknown key in it is an error."""


class Field(NamedTuple):
    """A key of a table: its type without `Live`, and what makes its default."""

    name: str
    kind: Any
    is_live: bool
    make_default: Callable[[], Any]

    @property
    def is_list(self) -> bool:
        return get_origin(self.kind) is tuple

    @property
    def is_switch(self) -> bool:
        return self.kind is bool

    @property
    def is_optional(self) -> bool:
        return NoneType in get_args(self.kind)


def fields_of(table: type[Table]) -> dict[str, Field]:
    """Return the keys of *table*, by name. Each has a default."""
    return {field.name: _field(field) for field in msgspec.structs.fields(table)}


def _field(field: msgspec.structs.FieldInfo) -> Field:
    kind, *marks = get_args(field.type) if get_origin(field.type) is Annotated else (field.type,)
    make = field.default_factory if field.default is msgspec.NODEFAULT else lambda: field.default
    return Field(field.name, kind, _IS_LIVE in marks, make)


def type_of(table: Table) -> str:
    """Return the type of *table*, one of a list of tables, as the file names it."""
    return str(table.__struct_config__.tag)


def read_table(given: Mapping[str, Any], table: type[TableT]) -> TableT:
    """Return the struct that *given*, a table as tomllib reads it, stands for. Raises Misfit."""
    try:
        return msgspec.convert(given, table, strict=False, dec_hook=_parse)
    except msgspec.ValidationError as error:
        raise explained(error, given, table) from error


def written(value: Any) -> Any:
    """Return *value*, of a field of a table, as it would be written in the file; an empty text for None."""
    if isinstance(value, tuple):
        return [written(each) for each in value]
    return "" if value is None else getattr(value, "text", value)


def _parse(kind: Any, given: Any) -> Any:
    return kind.parse(given)
