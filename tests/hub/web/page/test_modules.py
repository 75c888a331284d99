"""The modules of the page that compute and draw nothing, in the browser: search, levels, times, colours, tracebacks."""

from __future__ import annotations

from typing import Any

import pytest

from hub.control.filters import query_of
from hub.query.level import LEVELS, rank_of
from hub.query.query import Query
from tests.hub.control.journals import batch
from tests.hub.web.page.browser import Browser

ESC = "\x1b"
SEARCHES: dict[str, dict[str, Any]] = {
    "": {},
    "pool exhausted": {"grep": "pool exhausted", "ignore_case": True},
    "Pool": {"grep": "Pool"},
    "a.b(c)": {"grep": r"a\.b\(c\)", "ignore_case": True},
    '"tag:web"': {"grep": "tag:web", "ignore_case": True},
    "/refused|Reset/": {"grep": "refused|Reset"},
    "/refused|Reset/i": {"grep": "refused|Reset", "ignore_case": True},
    "-heartbeat": {"grep": "heartbeat", "ignore_case": True, "invert_match": True},
    "-heartbeat -/probe|ping/i tag:web": {
        "grep": "heartbeat|probe|ping",
        "ignore_case": True,
        "invert_match": True,
        "tag": ["web"],
    },
    "tag:web.* -tag:web.debug": {"tag": ["web.*", "!web.debug"]},
    "level:warning pid:17 comm:nginx": {"level": "warning", "pid": 17, "comm": "nginx"},
    'status>=500 user="Ann \\"L\\"" -ok=true': {"where": ["status>=500", 'user=Ann "L"', "ok!=true"]},
    "-status<500 http.path=/a": {"where": ["status>=500", "http.path=/a"]},
    "since:1h until:now": {"since": "1h", "until": "now"},
    "since:2026-11-20T14:30:00Z": {"since": "2026-11-20T14:30:00Z"},
    'since:"2026-11-20 14:30"': {"since": "2026-11-20T14:30:00.000Z"},
    "https://example.org": {"grep": "https://example\\.org", "ignore_case": True},
}
REFUSED = ["pid:x", "level:", "-level:error", "a /b/", "level:error level:info", "since:whenever", "a -b", "-a b"]
RECORDS: list[dict[str, Any]] = [
    {"level": "warn"}, {"level": 30}, {"level": 3}, {"level": 30, "v": 1}, {"severity": 4}, {"severity_number": 17},
    {"levelno": 25}, {"PRIORITY": "2"}, {"log": {"level": "ERROR"}}, {"level": f"{ESC}[31mCRIT{ESC}[0m"}, {},
    {"level": None}, {"level": True}, {"level": -1}, {"level": "nothing"}, {"lvl": "vrb"}, {"level": {"a": 1}},
    {"severityText": "Fatal"},
    {"level": 9, "priority": 1}, {"level": "", "levelname": "DEBUG"}, {"severity": 99}, {"level": "1234"},
]  # fmt: skip


@pytest.fixture(scope="module")
def modules(started: Browser, opened: Any) -> Browser:
    """The browser, where the modules can be imported."""
    started.open(opened.url)
    started.wait(started.rows)
    return started


def test_a_search_becomes_parameters_that_the_hub_takes(modules: Browser) -> None:
    """Each search has the parameters that are expected, and the hub's own parser takes them."""
    script = """const { parametersOf } = await import("./page/search.js");
        return args[0].map((query) => parametersOf(query, { isUtc: true }));"""
    found = modules.module(script, list(SEARCHES))
    assert dict(zip(SEARCHES, found, strict=True)) == SEARCHES
    for parameters in found:
        query_of(Query, is_trusted=False, **parameters)


def test_texts_to_leave_out_keep_their_case(modules: Browser) -> None:
    """Lower-case letters leave out capital ones as well, beside a text that has capital letters."""
    script = 'return (await import("./page/search.js")).parametersOf(args[0])'
    query = query_of(Query, is_trusted=True, **modules.module(script, "-heartbeat -KeyError"))
    texts = ("Heartbeat", "a KeyError", "keyerror", "other")
    found = query.messages(iter([batch("app", *({"message": text} for text in texts))]))
    assert [each.record["message"] for each in found] == ["keyerror", "other"]


def test_a_search_that_means_nothing_is_refused(modules: Browser) -> None:
    """Each of them is an Error with a text."""
    script = """const { parametersOf } = await import("./page/search.js");
        const faultOf = (query) => { try { parametersOf(query); return ""; } catch (error) { return error.message; } };
        return args[0].map(faultOf);"""
    found = modules.module(script, REFUSED)
    assert [query for query, text in zip(REFUSED, found, strict=True) if not text] == []


def test_filters_are_added_and_taken_away(modules: Browser) -> None:
    """A filter is there once; one that excludes another replaces it; a value keeps its spaces and quotes."""
    script = """const { withFilter, withoutFilter, filterOf, parametersOf } = await import("./page/search.js");
        const value = 'a "b" \\\\c';
        const added = withFilter("text level:info", { key: "user", operator: "=", value });
        const level = withFilter(added, { key: "level", operator: ":", value: "error" });
        return [parametersOf(level), filterOf(level, "user", value), withoutFilter(level, "user", value),
            withFilter("tag:a", { key: "tag", operator: ":", value: "a", isNegated: true }),
            withFilter("status=1", { key: "status", operator: "=", value: "1", isNegated: true })];"""
    parameters, kind, without, negated, other = modules.module(script)
    assert parameters == {"grep": "text", "ignore_case": True, "where": ['user=a "b" \\c'], "level": "error"}
    assert (kind, without, negated, other) == ("in", "text level:error", "-tag:a", "-status=1")


def test_the_level_is_that_of_the_hub(modules: Browser) -> None:
    """The page and the hub find the same level in each record."""
    script = """const { levelOf } = await import("./page/levels.js");
        return args[0].map((record) => levelOf(record)[0]);"""
    ranks = [rank_of(record) for record in RECORDS]
    assert modules.module(script, RECORDS) == ["" if rank is None else LEVELS[rank] for rank in ranks]
    assert modules.module('return (await import("./page/levels.js")).LEVELS') == list(LEVELS)


def test_colours_become_classes_and_nothing_else(modules: Browser) -> None:
    """Sequences of a terminal set classes and colours; others are left out; no text is lost."""
    text = f"a{ESC}[1;31mb{ESC}[0mc{ESC}[2Kd{ESC}]0;title\x07e{ESC}[38;5;208mf{ESC}[38;2;1;2;3mg{ESC}[39mh{ESC}[7mi"
    script = """const { pieces } = await import("./page/ansi.js");
        return pieces(args[0]).map(({ text, classes, style }) => [text, classes, style]);"""
    found = modules.module(script, text)
    assert "".join(piece for piece, _, _ in found) == "abcdefghi"
    assert ["b", "ansi-bold ansi-fg-1", ""] in found
    assert ["f", "", "color: rgb(255 135 0)"] in found
    assert ["g", "", "color: rgb(1 2 3)"] in found
    many = modules.module('return (await import("./page/ansi.js")).pieces(args[0]).length', f"x{ESC}[1m" * 5000)
    assert many < 600


def test_hidden_characters_are_shown(modules: Browser) -> None:
    """Controls, marks of direction and characters of no width have symbols; letters of all scripts stay."""
    script = 'return (await import("./page/text.js")).oneLine(args[0])'
    assert modules.module(script, "a\x00\x07\x7f\x9b\u202eb\u200b\ufeff") == "a␀␇␡⟨009B⟩⟨202E⟩b⟨200B⟩⟨FEFF⟩"
    assert modules.module(script, "naïve 日本 😀 עברית") == "naïve 日本 😀 עברית"
    assert modules.module(script, "one\r\ntwo\n") == "one ⏎ two"
    assert modules.module('return (await import("./page/text.js")).oneLine("x".repeat(1 << 20)).length') < 5000


def test_tracebacks_have_frames_of_ones_own(modules: Browser) -> None:
    """Frames of one's own code, of libraries, and the error are told apart."""
    text = (
        'Traceback (most recent call last):\n  File "/srv/a.py", line 1, in f\n    g()\n'
        '  File "/usr/lib/python3/dist-packages/b.py", line 2, in g\n    raise Odd("x")\nb.Odd: x\n'
    )
    script = 'return (await import("./page/traceback.js")).linesOf(args[0]).map(({ kind }) => kind)'
    assert modules.module(script, text) == ["head", "own", "code", "library", "library", "error"]
    java = "java.lang.IllegalStateException: no\n\tat shop.Orders.place(Orders.java:12)\n\tat java.base/x.y(Z.java:3)\n"
    assert modules.module(script, java)[:2] == ["error", "own"]
