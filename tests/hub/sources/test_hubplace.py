"""hub.sources.hubplace: which blocks of other hubs are new, and what is missing between them."""

from __future__ import annotations

import random

import msgspec
import pytest

from hub import entries as codec
from hub.message import Peer, Position
from hub.sources.hubplace import Kind, Verdict, judge, name_of, position_of, without_first
from hub.wire.shipped import Label

HUB = bytes(range(16))
NEW, OLD, EARLY = Verdict(Kind.NEW), Verdict(Kind.OLD), Verdict(Kind.EARLY)


def label(first: int, last: int, *, after: int | None = None, received: int = 100) -> Label:
    return Label(HUB, "web", b"app", Peer(), first, last - first + 1, first - 1 if after is None else after, received)


def at(number: int, received: int = 100) -> Position:
    return Position(name_of(HUB), number, b"%d" % received)


@pytest.mark.parametrize(
    ("given", "position", "verdict"),
    [
        (label(1, 5), None, NEW),
        (label(7, 9), None, NEW),
        (label(6, 9), at(5), NEW),
        (label(6, 9, received=200), at(5), NEW),
        (label(8, 9, after=5), at(5), NEW),  # a filter has left out 6 and 7
        (label(1, 5), at(5), OLD),
        (label(2, 4), at(5), OLD),
        (label(2, 4, received=50), at(5), OLD),
        (label(4, 7), at(5), Verdict(Kind.NEW, repeated=2)),  # cut in other places than before
        (label(9, 9), at(5), Verdict(Kind.NEW, missing=3)),
        (label(9, 9, after=7), at(5), Verdict(Kind.NEW, missing=2)),
        (label(3, 9, received=200), at(5), Verdict(Kind.NEW, went_back=True)),
        (label(3, 4, received=200), at(5), Verdict(Kind.NEW, went_back=True)),
        (label(6, 9, received=50), at(3), OLD),  # of the life before, which went back from 9 to 3
        (label(6, 9), Position(name_of(HUB), 5, b"?"), NEW),
    ],
)
def test_what_is_new(given: Label, position: Position | None, verdict: Verdict) -> None:
    """Of one hub, by the position of what was stored last."""
    assert judge(given, position, is_all_settled=True) == verdict


def test_what_may_still_come_is_waited_for() -> None:
    """A gap is one only if nothing before can come again; what is no gap need not wait."""
    for given, position, verdict in (
        (label(7, 9), None, EARLY),
        (label(9, 9), at(5), EARLY),
        (label(1, 3), None, NEW),
        (label(6, 9), at(5), NEW),
        (label(4, 5), at(5), OLD),
        (label(4, 7), at(5), Verdict(Kind.NEW, repeated=2)),
    ):
        assert judge(given, position, is_all_settled=False) == verdict


def test_any_repetition_is_stored_once() -> None:
    """Blocks that come again at any time, in any order after the first time, leave each message once, in order."""
    rng = random.Random(15)
    for _ in range(200):
        ends = sorted(rng.sample(range(1, 60), 12))
        blocks = [label(first + 1, last, received=last) for first, last in zip([0, *ends], ends, strict=False)]
        position: Position | None = None
        stored: list[int] = []
        for number, block in enumerate(blocks):
            for each in (*rng.sample(blocks[:number], min(number, 3)), block):
                verdict = judge(each, position, is_all_settled=True)
                if verdict.kind is Kind.NEW:
                    assert not verdict.missing
                    stored += range(each.first + verdict.repeated, each.last + 1)
                    position = position_of(each)
        assert stored == [*range(1, ends[-1] + 1)]


def test_the_first_messages_are_cut_off() -> None:
    """Group markers are no messages; those before the first message that is left go, too."""
    messages = [codec.stamp(1) + msgspec.msgpack.encode({"n": n}) for n in range(4)]
    entries = codec.join(messages, 4)
    assert without_first(entries, 0) == entries
    assert without_first(entries, 3) == codec.join(messages[3:], 1)
    assert without_first(entries, 4) == codec.join([], 0)
    marker = b"\x92\x92\xd7\x00\xff\xff\xff\xff\0\0\0\0\x80\x80"
    marked = codec.join([messages[0], marker, messages[1]], 3)
    assert without_first(marked, 1) == codec.join([marker, messages[1]], 2)
    assert without_first(marked, 2) == codec.join([], 0)
