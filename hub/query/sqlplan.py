"""
What a query in SQL needs of the messages: which columns, and within which bounds.

DuckDB itself plans the query, over an empty table of the same columns, and its plan is read.

Always true:
- a plan that is not understood needs everything: all columns, without bounds;
- bounds only ever leave out what the query leaves out as well.

Not here: reading (hub.query.sqlrows), running the query (hub.query.sql).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from hub.query.columns import COLUMNS
from hub.query.level import LEVELS, rank_of_name

_SEQUENCE_MAX = (1 << 63) - 1
_TIME_MAX = 1 << 62
_BOUND = ("sequence", "received", "tag", "level")
_LOW = ("COMPARE_GREATERTHAN", "COMPARE_GREATERTHANOREQUALTO", "COMPARE_EQUAL")
_HIGH = ("COMPARE_LESSTHAN", "COMPARE_LESSTHANOREQUALTO", "COMPARE_EQUAL")

_BEYOND = {"COMPARE_GREATERTHAN": 1, "COMPARE_LESSTHAN": -1}
_WHOLE = ("sequence", "received")


class Range(NamedTuple):
    """The values of a column, from *low* to *high*, both included; None: no bound."""

    low: Any = None
    high: Any = None

    def both(self, other: Range) -> Range:
        """Return what is in this one and the other."""
        low = max((each for each in (self.low, other.low) if each is not None), default=None)
        high = min((each for each in (self.high, other.high) if each is not None), default=None)
        return Range(low, high)

    def either(self, other: Range) -> Range:
        """Return what is in this one or the other, and between them."""
        low = None if self.low is None or other.low is None else min(self.low, other.low)
        high = None if self.high is None or other.high is None else max(self.high, other.high)
        return Range(low, high)


_ANY = Range()


class Needs(NamedTuple):
    """The columns that a query reads, and the bounds of those that bound it: the keys of *ranges*."""

    columns: tuple[str, ...]
    ranges: Mapping[str, Range]

    def _range(self, name: str) -> Range:
        return self.ranges.get(name, _ANY)

    @property
    def sequences(self) -> tuple[int, int]:
        """The first and the last sequence."""
        low, high = self._range("sequence")
        return 0 if low is None else max(low, 0), _SEQUENCE_MAX if high is None else high

    @property
    def received_us(self) -> Range:
        """The bounds of the time of receipt, in microseconds."""
        low, high = self._range("received")
        return Range(
            None if low is None or not -_TIME_MAX < low < _TIME_MAX else low,
            None if high is None or not -_TIME_MAX < high < _TIME_MAX else high,
        )

    @property
    def tag(self) -> str | None:
        """The one tag that is read."""
        low, high = self._range("tag")
        return low if low == high else None

    @property
    def rank_min(self) -> int | None:
        """The rank of the lowest level that is read."""
        low, _ = self._range("level")
        return None if low is None else int(low)


EVERYTHING = Needs(tuple(COLUMNS), {})


def needs_of(plan: str, table: str) -> Needs:
    """Return what the plan (as ``json_serialize_plan`` returns it) needs of the table with this name."""
    decoded = _decoded(plan)
    if decoded.get("error", True):
        return EVERYTHING
    scans = [_of_scan(each) for each in _nodes(decoded) if _is_scan(each, table)]
    columns = {name for scan in scans for name in scan.columns}
    ranges = dict(scans[0].ranges) if scans else {}
    for scan in scans[1:]:
        ranges = {name: ranges[name].either(scan.ranges[name]) for name in ranges.keys() & scan.ranges.keys()}
    return Needs(tuple(name for name in COLUMNS if name in columns), ranges)


def _decoded(text: str) -> dict[str, Any]:
    """Return what DuckDB has written as JSON; nothing if that is none, because a constant is not a number."""
    try:
        found: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield each object in *tree*, however deep it is."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _is_scan(node: dict[str, Any], table: str) -> bool:
    return node.get("type") == "LOGICAL_GET" and node.get("function_data", {}).get("table") == table


def _of_scan(scan: dict[str, Any]) -> Needs:
    names: list[str] = scan["names"]
    indexes = [each.get("index", 0) for each in scan["column_indexes"]]
    read = [names[index] if index < len(names) else "" for index in indexes]  # beyond: the number of the row
    ranges: dict[str, Range] = {}
    for each in scan.get("table_filters", {}).get("filters", ()):
        if scan.get("table_filters_by_projection") and (name := read[each.get("key", 0)]) in _BOUND:
            ranges[name] = _range(name, each["value"]).both(ranges.get(name, _ANY))
    return Needs(tuple(name for name in read if name), ranges)


def _range(name: str, found: dict[str, Any]) -> Range:
    """Return the values that a filter of a scan lets through, and perhaps more."""
    kind = found.get("filter_type")
    if kind == "LEGACY_CONSTANT_COMPARISON":
        value, comparison = _value(name, found["constant"]), found["comparison_type"]
        if name in _WHOLE and value is not None:
            value += _BEYOND.get(comparison, 0)
        return Range(value if comparison in _LOW else None, value if comparison in _HIGH else None)
    if kind == "LEGACY_IN_FILTER":
        values = [_value(name, each) for each in found["values"]]
        return _ANY if None in values or not values else Range(min(values), max(values))
    if kind == "LEGACY_OPTIONAL_FILTER":
        return _range(name, found["child_filter"]) if "child_filter" in found else _ANY
    children = [_range(name, each) for each in found.get("child_filters", ())]
    together = _ANY
    if kind == "LEGACY_CONJUNCTION_AND":
        for child in children:
            together = together.both(child)
    elif kind == "LEGACY_CONJUNCTION_OR" and children:
        together = children[0]
        for child in children[1:]:
            together = together.either(child)
    return together


def _value(name: str, constant: dict[str, Any]) -> Any:
    """Return a constant as it is compared, a level as its rank; None if it has another type than the column."""
    value = constant.get("value")
    if constant.get("is_null", False):
        return None
    if name == "tag":
        return value if isinstance(value, str) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def with_levels(sql: str, parsed: str) -> str:
    """
    Return the query with a cast after each text that is compared with the column `level`, so that levels compare in
    their order: DuckDB would compare them as texts. *parsed* is what ``json_serialize_sql`` returns for it.

    A level may have any name that `--level` knows.
    """
    raw = sql.encode()
    places = {(each["query_location"], each["query_location_length"]): each for each in _compared(_decoded(parsed))}
    for (begin, length), constant in sorted(places.items(), reverse=True):
        rank = rank_of_name(constant["literal"]["text"])
        if rank is not None and raw[begin : begin + 1] == b"'":
            raw = b"%b'%b'::level%b" % (raw[:begin], LEVELS[rank].encode(), raw[begin + length :])
    return raw.decode()


def _compared(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield the texts that are compared with a column `level`."""
    for node in _nodes(tree):
        sides = [*_sides(node)]
        if any(map(_is_level, sides)):
            yield from filter(_is_text, sides)


def _sides(node: dict[str, Any]) -> Iterable[dict[str, Any]]:
    if not str(node.get("type", "")).startswith("COMPARE_"):
        return ()
    named = [node[key] for key in ("left", "right", "input", "lower", "upper") if isinstance(node.get(key), dict)]
    return [*named, *(each for each in node.get("children", ()) if isinstance(each, dict))]


def _is_level(node: dict[str, Any]) -> bool:
    names = node.get("column_names") or ("",)
    return node.get("class") == "COLUMN_REF" and str(names[-1]).lower() == "level"


def _is_text(node: dict[str, Any]) -> bool:
    return node.get("class") == "CONSTANT" and node.get("literal", {}).get("kind") == "STRING"
