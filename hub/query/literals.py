"""
The texts without which a regular expression matches nothing.

`timeout.*(refused|reset)` needs `timeout`, and `refused` or `reset`. A search for bytes is much faster than decoding,
so bytes that lack one of them are passed over.

Always true: a string in which the expression is found contains a text of each choice. No choice means that nothing is
known about the expression.

Not here: where the texts are searched (hub.query.candidates).
Source: the tree of `re._parser`, which has no documented form. An element of it that is not known here ends a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

_UNSEARCHABLE = re.compile("[\ufffd\ud800-\udfff]")
_CHOICES_MAX = 4
_ALTERNATIVES_MAX = 16
Choice = Sequence[str]


class Literals(NamedTuple):
    """*choices*: one text of each is in every match. *ignore_case*: in any case; then the texts are lower case."""

    choices: list[Choice]
    ignore_case: bool = False


def literals_of(pattern: str, *, ignore_case: bool = False) -> Literals:
    """Return the texts that *pattern* needs, the longest first. Raises re.error if it is no regular expression."""
    flags = re.IGNORECASE if ignore_case else 0
    found = re.compile(pattern, flags)
    ignore_case = bool(found.flags & re.IGNORECASE)
    try:
        tree = re._parser.parse(pattern, flags)  # type: ignore[attr-defined]
        choices = _choices(tree, ignore_case=ignore_case)
    except (AttributeError, TypeError, ValueError, RecursionError):  # another form of the tree
        return Literals([])
    return Literals(sorted(choices, key=_shortest, reverse=True)[:_CHOICES_MAX], ignore_case)


def _shortest(choice: Choice) -> int:
    return min(map(len, choice))


def _choices(tree: Iterable[tuple[Any, Any]], *, ignore_case: bool) -> list[Choice]:
    """Return the choices of a sequence of elements."""
    found: list[Choice] = []
    run = ""
    for kind, value in tree:
        if str(kind) == "LITERAL" and (character := _searchable(chr(value), ignore_case=ignore_case)):
            run += character
            continue
        found += [[run]] if run else []
        run = ""
        found += _choices_within(str(kind), value, ignore_case=ignore_case)
    return [*found, [run]] if run else found


def is_searchable(text: str) -> bool:
    """Return whether *text* is in the bytes of every string that contains it. U+FFFD stands for invalid bytes."""
    return _UNSEARCHABLE.search(text) is None


def _searchable(character: str, *, ignore_case: bool) -> str:
    """Return *character* as it is searched, or nothing."""
    if ignore_case:
        return character.lower() if character.isascii() else ""
    return character if is_searchable(character) else ""


def _choices_within(kind: str, value: Any, *, ignore_case: bool) -> list[Choice]:
    """Return the choices of an element that has others inside."""
    if kind in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least, _, tree = value
        return _choices(tree, ignore_case=ignore_case) if least else []
    if kind == "SUBPATTERN":
        _, added, removed, tree = value
        return [] if added or removed else _choices(tree, ignore_case=ignore_case)
    if kind == "BRANCH":
        _, branches = value
        each = [_choices(branch, ignore_case=ignore_case) for branch in branches]
        if all(each):
            texts = [text for choices in each for text in max(choices, key=_shortest)]
            return [texts] if len(texts) <= _ALTERNATIVES_MAX else []
    return []
