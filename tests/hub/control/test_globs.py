"""hub.control.globs: globs that would take long to compile are refused."""

from __future__ import annotations

import fnmatch
import re

import pytest

from hub.control.globs import GLOBS_CHARS_MAX, check
from hub.errors import InvalidParams
from tests.speed import cpu_s, holds


@pytest.mark.parametrize(
    "globs",
    [
        [],
        ["*"],
        ["x" * GLOBS_CHARS_MAX],
        ["a*", "[a-z]?", "[!0-9]*"],
        ["größe.*", "?ü"],
        ["a" * (GLOBS_CHARS_MAX // 2)] * 2,
    ],
)
def test_globs_that_pass(globs: list[str]) -> None:
    """Any characters, and sets in ASCII."""
    check(globs, "tag")


@pytest.mark.parametrize(
    ("globs", "words"),
    [
        (["x" * GLOBS_CHARS_MAX, "y"], f"of more than {GLOBS_CHARS_MAX} characters"),
        (["*", "[\u0100-\uffff]"], "must be ASCII"),
        (["ü[a]"], "must be ASCII"),
    ],
)
def test_globs_that_are_refused(globs: list[str], words: str) -> None:
    """The error names the parameter."""
    with pytest.raises(InvalidParams, match=f"^events: .*{words}") as caught:
        check(globs, "events")
    assert caught.value.data == {"param": "events"}


@pytest.mark.parametrize("part", ["[ab]", "[!a-c]", "?", "*a", "x", "[a-z0-9]"])
def test_what_passes_compiles_fast(part: str) -> None:
    """Of what is refused, as much takes a hundred times as long."""
    glob = part * (GLOBS_CHARS_MAX // len(part))
    check([glob], "tag")

    def compiling() -> float:
        re.purge()
        return cpu_s(lambda: re.compile(fnmatch.translate(glob)))

    holds(0.2, compiling)
