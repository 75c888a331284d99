"""hub.query.repeats: repeated lines, shown once with their number."""

from hub.message import Message, Peer
from hub.query.rendering import render_pretty, render_text
from hub.query.repeats import collapsed


def lines(*messages: Message) -> list[str]:
    """Return the pretty lines without date and time."""
    return [line.split(" ", 2)[2] for line in collapsed(messages, render_pretty)]


def test_neighbours_that_look_alike() -> None:
    """Only neighbours of one writer and tag whose lines are the same, except for the time, are one line."""
    peer = Peer(1, comm="x")
    a, b = ({"message": each} for each in "ab")
    times = [Message("t", number * 7_000_000_000, a, number, peer=peer) for number in range(3)]
    assert lines(*times, Message("t", 1, b, peer=peer), times[0]) == ["t x[1] a \u00d73", "t x[1] b", "t x[1] a"]
    assert lines(Message("t", 1, a), Message("u", 1, a), Message("u", 1, a, peer=peer)) == [
        "t ?[0] a",
        "u ?[0] a",
        "u x[1] a",
    ]
    assert lines(Message("t", 1, {"n": 1}), Message("t", 1, {"n": True})) == ["t ?[0] n=1", "t ?[0] n=true"]
    assert lines() == []


def test_a_text_of_several_lines() -> None:
    """The number is at the end of the first line."""
    messages = [Message("t", number, {"message": "failed\n  at x"}) for number in range(98)]
    assert [*collapsed(messages, render_text)] == ["failed \u00d798\n  at x"]
