"""
Explains what does not fit in a table of the configuration, in the words of the file.

msgspec finds the fault and names its place. The types and the value at that place show what is wrong and what would be
right.

Always true: a `Misfit` names the place as in ``send_allow[1]`` (counted from 0), the value, what is wrong with it, and
what is allowed; and for an unknown key, the known one that is most like it.

Not here: where the table was written: file, variable or flag (hub.service.settings).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import inspect

_PLACE = re.compile(r" - at `\$\.?([^`]*)`$")
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


class Misfit(ValueError):
    """Something in a table does not fit. *key* is the outermost key of its place; empty for the whole file."""

    def __init__(self, key: str, sentence: str) -> None:
        super().__init__(key, sentence)
        self.key, self.sentence = key, sentence

    def __str__(self) -> str:
        return self.sentence


def unknown_key(place: str, value: Any, known: Sequence[str], where: str) -> Misfit:
    """Return the error for a key that is not *known*. *where* is the place where the known ones are listed."""
    outer, dot, name = place.rpartition(".")
    near = difflib.get_close_matches(name, known, 1, 0.5)
    advice = f"did you mean {outer}{dot}{near[0]}?" if near else where
    return _misfit(place, f"there is no key {place} (it is {as_toml(value)}; {advice})")


def as_toml(value: Any) -> str:
    """Return *value* as it is written in a file, on one line."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, dict):
        return "a table"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _misfit(place: str, sentence: str) -> Misfit:
    return Misfit(re.split(r"[.\[]", place, maxsplit=1)[0], sentence)


def explained(error: msgspec.ValidationError, given: Mapping[str, Any], table: type[msgspec.Struct]) -> Misfit:
    """Return the reason for *error*, which msgspec raised when it converted *given* to *table*."""
    found = _PLACE.search(str(error))
    place, message = (found[1], str(error)[: found.start()]) if found else ("", str(error))
    value, kinds = _at(place, given, table)
    structs = _structs(kinds, value) if isinstance(value, dict) else []
    if isinstance(error.__cause__, ValueError):  # of a `parse`, or of a struct that checks its keys together
        message = str(error.__cause__)
    elif structs and (misfit := _explained_keys(place, value, structs)):
        return misfit
    else:
        message = _allowed(place, value, kinds) or message
    shown = place if isinstance(value, dict) else f"{place} = {as_toml(value)}"
    return _misfit(place, f"{shown}: {message}" if shown else message)


def _at(place: str, given: Any, table: type[msgspec.Struct]) -> tuple[Any, list[inspect.Type]]:
    """Return the value at *place* and the types that are allowed there; none if msgspec does not name it exactly."""
    value, kinds = given, _alternatives(inspect.type_info(table))
    for name, index in _STEP.findall(place):
        kinds = _below(kinds, value, name)
        if not kinds:
            return "…", []
        value = value[name or int(index)]
    return value, kinds


def _below(kinds: list[inspect.Type], value: Any, name: str) -> list[inspect.Type]:
    """Return the types of the key *name* of a table *value*, or those of the items of a list."""
    if not name:
        items = (kind for kind in kinds if isinstance(kind, (inspect.ListType, inspect.VarTupleType)))
        return [each for kind in items for each in _alternatives(kind.item_type)]
    structs = _structs(kinds, value)
    if any(struct.tag_field == name for struct in structs):
        return [_tags(structs)]
    fields = (field for struct in structs[:1] for field in struct.fields)
    return [each for field in fields if field.encode_name == name for each in _alternatives(field.type)]


def _alternatives(kind: inspect.Type) -> list[inspect.Type]:
    """Return what *kind* allows: the members of a union except None, without annotations."""
    if isinstance(kind, inspect.Metadata):
        return _alternatives(kind.type)
    if isinstance(kind, inspect.UnionType):
        return [each for member in kind.types for each in _alternatives(member)]
    return [] if isinstance(kind, inspect.NoneType) else [kind]


def _structs(kinds: list[inspect.Type], value: Any) -> list[inspect.StructType]:
    """Return the struct of *kinds* that the tag of the table *value* names; all of them if it names none."""
    structs = [kind for kind in kinds if isinstance(kind, inspect.StructType)]
    named = [each for each in structs if each.tag_field is None or value.get(each.tag_field) == each.tag]
    return named or structs


def _tags(structs: Sequence[inspect.StructType]) -> inspect.LiteralType:
    return inspect.LiteralType(tuple(str(struct.tag) for struct in structs))


def _explained_keys(place: str, value: dict[str, Any], structs: list[inspect.StructType]) -> Misfit | None:
    """Return the error for a table with an unknown key, or without one that it needs; None if all are right."""
    prefix, tag = (f"{place}." if place else ""), structs[0].tag_field
    if tag is not None and tag not in value:
        return _misfit(place, f"{prefix}{tag} is missing ({_one_of(_tags(structs).values)})")
    known = [*([tag] if tag else []), *(field.encode_name for field in structs[0].fields)]
    for name, each in value.items():
        if name not in known:
            return unknown_key(prefix + name, each, known, f"the keys are {', '.join(known)}")
    required = (field.encode_name for field in structs[0].fields if field.required)
    missing = [name for name in required if name not in value]
    return _misfit(place, f"{prefix}{missing[0]} is missing") if missing else None


def _allowed(place: str, value: Any, kinds: list[inspect.Type]) -> str:
    """Return what is wrong with *value* and what would be right; empty if this function does not know."""
    wrong = ""
    match kinds:
        case [inspect.LiteralType(values=values)]:
            wrong = f"not {_one_of(values)}"
        case [inspect.IntType(ge=least, le=most)]:
            wrong = f"not a whole number{_range(least, most)}"
        case [inspect.FloatType()]:
            wrong = "not a number"
        case [inspect.BoolType()]:
            wrong = "not true or false"
        case [inspect.StrType()] if not isinstance(value, str):
            wrong = f'not a text (write it in quotation marks: "{value}")'
        case [inspect.VarTupleType() as kind] if _structs(_alternatives(kind.item_type), {}):
            wrong = f"not a list of tables (write the heading of each as [[{place}]])"
        case [inspect.VarTupleType()]:
            wrong = f"not a list (write it in brackets: [{as_toml(value)}])"
        case [inspect.StructType(), *_]:
            wrong = "not a table"
    return wrong


def _one_of(values: Sequence[object]) -> str:
    return f"one of {', '.join(map(str, values))}"


def _range(least: float | None, most: float | None) -> str:
    if least is None:
        return "" if most is None else f" up to {most}"
    return f" of at least {least}" if most is None else f" from {least} to {most}"
