"""
hub.escaping: a terminal shows any text and does nothing else.
"""

from __future__ import annotations

import functools
import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.escaping import escape, escape_json, escape_lines, is_harmless

INVISIBLE = frozenset(map(chr, (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x2800, 0x3164, 0xFFA0)))
INVISIBLE |= set(map(chr, (0x16FE4, 0x1D159, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
HEART_ON_FIRE = "\u2764\ufe0f\u200d\U0001f525"
I_WANT = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"  # Persian, with a non-joiner


@functools.cache
def unsafe() -> frozenset[str]:
    """Return the characters that must be escaped: too many to look for them before a test needs them."""
    kinds = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return INVISIBLE.union(each for each in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(each) in kinds)


def test_every_character() -> None:
    """
    Exactly the unsafe and the invisible characters are escaped, in both forms, and JSON decodes to the original.

    Of planes without any assigned character, some are enough: nothing tells their characters apart.
    """
    empty = range(0x40000, 0xE0000)
    assert set(map(unicodedata.category, map(chr, empty))) == {"Cn"}
    every = "".join(map(chr, (*range(empty.start), *empty[::251], *range(empty.stop, sys.maxunicode + 1))))
    backwards = every[:0x5C:-1]  # as in JSON: no quote, no backslash; no two surrogates form a pair
    shown, as_json = escape(every), escape_json(f'"{backwards}"')
    assert unsafe().isdisjoint(shown)
    assert unsafe().isdisjoint(as_json)
    assert set(every) - unsafe() <= set(shown)
    assert json.loads(as_json) == backwards


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain \u00e4\u6f22\u0301", "plain \u00e4\u6f22\u0301"),
        ("\x00\t\n\x1b[31m\x7f", r"\x00\x09\x0a\x1b[31m\x7f"),
        ("\x85\x9b", r"\x85\x9b"),
        ("\u061c\u200b\u200e\u202e\u2028\u2029\u2066\ufeff", r"\u061c\u200b\u200e\u202e\u2028\u2029\u2066\ufeff"),
        ("\ue000\udcff\u0378", r"\ue000\udcff\u0378"),
        ("\U000e0041\U0010ffff", r"\U000e0041\U0010ffff"),
        ("\u00a0\u3000", "\u00a0\u3000"),
        (FAMILY, FAMILY),
        (HEART_ON_FIRE, HEART_ON_FIRE),
        (I_WANT, I_WANT),
        ("pass\u200dword", r"pass\u200dword"),
        ("\u200c\u0645", "\\u200c\u0645"),
        ("\u0645\u200d", "\u0645\\u200d"),
        ("\u0645\u200d\u200d\u0645", "\u0645\\u200d\\u200d\u0645"),
        ("\u0645\u200d\u202e", "\u0645\\u200d\\u202e"),
        ("\u05d0\u200c\u05d1", "\u05d0\\u200c\u05d1"),
        ("ad\u3164min \ufe0f\U000e0101", r"ad\u3164min \ufe0f\U000e0101"),
        ("\u2764\ufe0f\ufe0f", "\u2764\ufe0f\\ufe0f"),
    ],
)
def test_for_people(text: str, shown: str) -> None:
    """Control and hidden characters are escaped; joiners are kept only where they change the display."""
    assert escape(text) == shown


def test_lines() -> None:
    """Line feeds and tabs are kept, each further line is indented, and nothing else ends a line."""
    assert escape_lines("a\tb\r\nc\u2028d\x0b\x1c\x85\n", "  ") == "a\tb\\x0d\n  c\\u2028d\\x0b\\x1c\\x85\n  "
    assert escape_lines("plain", "  ") == "plain"


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("\x9b\u200d\u2028", '"\\u009b\\u200d\\u2028"'),
        ("\U000e0041", '"\\udb40\\udc41"'),
        ("\u3000\u6f22", '"\u3000\u6f22"'),
    ],
)
def test_for_programs(value: str, encoded: str) -> None:
    """JSON escapes have four digits, two of them beyond the BMP, joiners included; a program reads the original."""
    text = json.dumps(value, ensure_ascii=False)
    assert escape_json(text) == encoded
    assert json.loads(encoded) == value


UNUSUAL = st.deferred(
    lambda: st.sampled_from([*sorted(unsafe().intersection(map(chr, range(0x800)))), *FAMILY, *I_WANT, "a", "\n"])
)


@given(st.text() | st.text(UNUSUAL))
def test_any_text(text: str) -> None:
    """One line stays one line, the number of lines is kept, and JSON decodes to the original."""
    joins = {"\u200c", "\u200d"}
    assert unsafe().isdisjoint(set(escape(text)) - joins)
    assert len(escape(text).splitlines()) <= 1
    assert len(escape_lines(text, "    ").splitlines()) <= text.count("\n") + 1
    encoded = escape_json(json.dumps(text, ensure_ascii=False))
    assert unsafe().isdisjoint(encoded)
    assert json.loads(encoded) == text
    plain = json.dumps(text, ensure_ascii=False)
    assert not is_harmless(f"{plain}\n".encode("utf-8", "surrogatepass")) or encoded == plain


@pytest.mark.parametrize(
    ("text", "is_it"),
    [
        ("", True),
        ("a\n~", True),
        ("\x7f", False),
        ("é漢\n", True),
        ("é\x7f", False),
        ("\u202e", False),
        ("\u2800", False),
    ],
)
def test_lines_that_need_no_escape_are_recognised_together(text: str, is_it: bool) -> None:
    """So the common case costs one look at many lines. In doubt, each is looked at."""
    assert is_harmless(text.encode()) is is_it
    assert not is_harmless(text.encode() + b"\xff")
