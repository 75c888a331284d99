"""hub.alerts.window: it fires exactly when a slow and obvious reference does, whenever it was packed between."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hub.alerts.window import Fired, Match, Rule, Window

Event = tuple[str, int]
HISTORIES = st.lists(
    st.one_of(
        st.tuples(st.just("match"), st.integers(0, 6)),  # how much later
        st.tuples(st.just("silence"), st.integers(0, 9)),  # for how long from the last match on
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=40,
)
RULES = st.builds(Rule, st.integers(1, 4), st.integers(0, 9), st.integers(0, 12))


def reference(rule: Rule, events: list[Event]) -> list[tuple[int, int, int]]:
    """Return first, last and all matches of each firing: all matches are kept, and all are looked at each time."""
    now, number, silenced, firings = 1, 0, 0, []
    matches: list[tuple[int, int]] = []  # since the last firing
    fired_at = None
    for kind, value in events:
        if kind == "silence":
            silenced = now + value
        if kind != "match":
            continue
        now, number = now + value, number + 1
        matches.append((now, number))
        last = matches[-rule.count :]
        is_full = len(last) == rule.count and (rule.count == 1 or now - last[0][0] <= rule.within)
        is_quiet = now <= silenced or (fired_at is not None and now < fired_at + rule.pause)
        if is_full and not is_quiet:
            firings.append((last[0][1], number, len(matches)))
            matches, fired_at = [], now
    return firings


def played(rule: Rule, events: list[Event]) -> list[Fired]:
    window, now, number, firings = Window(rule), 1, 0, []
    for kind, value in events:
        if kind == "silence":
            window.silenced_until = now + value
        elif kind == "restart":
            window = Window.unpack(rule, window.pack())
        else:
            now, number = now + value, number + 1
            firings.append(window.match(now, number))
            assert window.upto == number
    assert window.firings == sum(fired is not None for fired in firings)
    return [fired for fired in firings if fired is not None]


@settings(max_examples=150, deadline=None)
@given(RULES, HISTORIES)
def test_it_fires_as_the_reference_does(rule: Rule, events: list[Event]) -> None:
    """For any rule, times, silences and restarts; a firing has the sequences that it is about."""
    firings = played(rule, events)
    assert [(fired.first.sequence, fired.last.sequence, fired.matches) for fired in firings] == reference(rule, events)
    for fired in firings:
        assert (len(fired.sequences), fired.count) == (rule.count, rule.count)
        assert (fired.sequences[0], fired.sequences[-1]) == (fired.first.sequence, fired.last.sequence)
    taken = [sequence for fired in firings for sequence in fired.sequences]
    assert len(set(taken)) == len(taken)


def test_the_bounds() -> None:
    """A match exactly *within* before the last one counts; one at the end of the pause makes it fire."""
    window = Window(Rule(2, 10, 5))
    assert window.match(100, 1) is None
    assert window.match(110, 2) == Fired(Match(100, 1), Match(110, 2), 2, 2, (1, 2))
    assert window.match(111, 3) is None
    assert window.match(114, 4) is None
    assert window.match(115, 5) == Fired(Match(114, 4), Match(115, 5), 2, 3, (4, 5))
    assert (window.recent(120), window.fired_at, window.fired_last) == (0, 115, 5)
    window.match(121, 6)
    assert [window.recent(now) for now in (121, 131, 132)] == [1, 1, 0]
    window = Window(Rule(2, 10, 0))
    window.match(100, 1)
    assert window.match(111, 2) is None


def test_another_rule() -> None:
    """A window that was stored under another rule keeps the last matches; what cannot be read is an empty window."""
    window = Window(Rule(4, 10, 0))
    for number in range(1, 4):
        window.match(number, number)
    fired = Window.unpack(Rule(2, 10, 0), window.pack()).match(4, 4)
    assert fired is not None
    assert fired.sequences == (3, 4)
    for detail in (b"", b"\xc1", b"\x93\x01\x02\x03"):
        assert Window.unpack(Rule(2, 10, 0), detail).pack() == Window(Rule(2, 10, 0)).pack()
