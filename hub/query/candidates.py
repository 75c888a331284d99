"""
Finds the entries of a batch that can be wanted, by their bytes, before anything is decoded.

A *finder* is made for bytes that every wanted message contains. It looks at the bytes of a batch, and returns a
function that finds the next place of it. msgpack stores texts unchanged and without gaps, so what is in a string is in
the bytes too; but what is in the bytes may be part of a key, of a number, or of two entries. So candidates are decoded
and looked at.

Always true: an entry that is no candidate does not contain what the finder is for.

Not here: what every wanted message contains (hub.query.literals, hub.query.condition).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence

from hub.entries import contains
from hub.query.literals import Choice

Find = Callable[[int], int]
"""Returns the next place at or after an offset, or the length of the bytes if there is none."""
Finder = Callable[[bytes], Find | None]
"""Returns what finds places in these bytes; None if there is none."""
_SAMPLE = 16
"""The number of candidates after which it is estimated whether decoding everything would be quicker."""
# What `re` takes for one of these letters if it ignores case, beside the two of ASCII.
CASE_TWINS = {"i": (b"\xc4\xb0", b"\xc4\xb1"), "k": (b"\xe2\x84\xaa",), "s": (b"\xc5\xbf",)}


def are_dense(packed: bytes, count: int, finds: Sequence[Find]) -> bool:
    """Return whether most of the *count* entries seem to be candidates, by a look at the bytes of the first ones."""
    mean = len(packed) // max(count, 1)
    return count >= 2 * _SAMPLE and candidates(range(0, (2 * _SAMPLE + 1) * mean, mean), finds) is None


def candidates(starts: Sequence[int], finds: Sequence[Find]) -> list[int] | None:
    """
    Return the indexes of the entries in which each of *finds* has a place; None if most entries are such.

    *starts* holds the offset of each entry, and that of the end of the last one.
    """
    found: list[int] = []
    index, count = 0, len(starts) - 1
    while index < count:
        start, end = starts[index], starts[index + 1]
        for find in finds:
            at = find(start)
            if at >= end:
                index = bisect_right(starts, at) - 1
                break
        else:
            found.append(index)
            index += 1
            if len(found) >= _SAMPLE and 2 * len(found) > index:
                return None
    return found


def of_choice(choice: Choice, *, ignore_case: bool = False) -> Finder:
    """Return a finder for one of the texts of *choice*, with *ignore_case* in any case; then they are lower case."""
    needles = [text.encode() for text in choice]
    if ignore_case:
        letters = {*"".join(choice)}
        twins = [twin for letter, twins in CASE_TWINS.items() if letter in letters for twin in twins]
        return lambda packed: _find_in_any_case(packed, needles, twins)
    if len(needles) == 1:
        needle = needles[0]
        return lambda packed: _find_one(packed, needle) if contains(packed, needle) else None
    return lambda packed: _find_any(packed, needles)


def of_pattern(pattern: re.Pattern[bytes], needle: bytes) -> Finder:
    """Return a finder for *pattern*, whose matches all contain *needle*."""
    return lambda packed: _find_match(pattern, packed) if contains(packed, needle) else None


def of_regex(pattern: re.Pattern[bytes]) -> Finder:
    """Return a finder for *pattern*."""
    return lambda packed: _find_match(pattern, packed)


def _find_match(pattern: re.Pattern[bytes], packed: bytes) -> Find | None:
    if pattern.search(packed) is None:
        return None
    end = len(packed)

    def find(at: int) -> int:
        match = pattern.search(packed, at)
        return end if match is None else match.start()

    return find


def _find_one(packed: bytes, needle: bytes) -> Find:
    end = len(packed)

    def find(at: int) -> int:
        place = packed.find(needle, at)
        return end if place == -1 else place

    return find


def _find_any(packed: bytes, needles: Sequence[bytes]) -> Find | None:
    finds = [_find_one(packed, needle) for needle in needles if contains(packed, needle)]
    if len(finds) < 2:
        return finds[0] if finds else None
    searched, places = [0] * len(finds), [-1] * len(finds)  # between the two, the needle is not

    def find(at: int) -> int:
        for index, find_one in enumerate(finds):
            if not searched[index] <= at <= places[index]:
                searched[index], places[index] = at, find_one(at)
        return min(places)

    return find


def _find_in_any_case(packed: bytes, needles: Sequence[bytes], twins: Sequence[bytes]) -> Find | None:
    if any(twin in packed for twin in twins):
        return lambda at: at
    return _find_any(packed.lower(), needles)
