"""hub.alerts.firing: what is reported, whatever producers have sent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from hub.alerts.firing import SAMPLE_CHARS, Firing, firing_of, id_of, samples_of, trial_of
from hub.alerts.window import Fired, Match, Rule, Window
from tests.hub.alerts.watching import SECOND, alert_of, message
from tests.hub.sinks.delivering import batch, hub_in, numbered

HUB = bytes(16)
ALERT = alert_of(count=2, within="1m", level="error", link="https://logs.example/")


def fired(*sequences: int, matches: int = 0) -> Fired:
    first, last = (Match(SECOND * sequence, sequence) for sequence in (sequences[0], sequences[-1]))
    return Fired(first, last, len(sequences), matches or len(sequences), sequences)


def decoded(firing: Firing) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(firing.as_json())
    return found


def test_json() -> None:
    """It has the counts, the first and the last match, samples with their messages, and the link."""
    found = decoded(firing_of(ALERT, HUB, fired(3, 5, matches=9), [message(3, 3, message="x", level="error")]))
    assert found["text"] == "a: 2 messages within 1m, 9 since it has fired before"
    assert (found["alert"], found["test"], found["count"], found["matches"], found["within_s"]) == (
        "a",
        False,
        2,
        9,
        60,
    )
    assert found["first"] == {"sequence": 3, "received": "1970-01-01T00:00:03.000000000Z"}
    assert found["last"]["sequence"] == 5
    (sample,) = found["samples"]
    assert (sample["sequence"], sample["tag"], sample["level"], sample["text"]) == (3, "app", "error", "x")
    assert sample["message"]["record"] == {"message": "x", "level": "error"}
    assert found["link"].startswith("https://logs.example/#q=level%3Aerror&from=1970")
    assert decoded(firing_of(alert_of(), HUB, fired(1), []))["text"] == "a: 1 message"


def test_hostile_messages() -> None:
    """What producers send is cut, and is valid UTF-8 without control characters in the message."""
    huge = message(1, message="\x1b[31m\u202e" + "x" * 100_000)
    (sample,) = decoded(firing_of(ALERT, HUB, fired(1), [huge]))["samples"]
    assert (len(sample["text"]), sample["level"], "message" in sample) == (SAMPLE_CHARS, None, False)
    (sample,) = decoded(firing_of(ALERT, HUB, fired(1), [message(1, n=b"\xff\x00", deep=[[[1]]])]))["samples"]
    assert sample["message"]["record"]["deep"] == [[[1]]]


def test_text() -> None:
    """The text has the summary, the samples and the link, and is never longer than allowed, except for the link."""
    firing = firing_of(ALERT, HUB, fired(3, 5), [message(3, 3), message(5, 5)])
    lines = firing.as_text(10_000).splitlines()
    assert lines[0] == "a: 2 messages within 1m"
    assert lines[1:3] == ["1970-01-01T00:00:03.000000000Z app m3", "1970-01-01T00:00:05.000000000Z app m5"]
    assert lines[3] == firing.link
    assert firing.link is not None
    assert len(firing.as_text(len(firing.link) + 10)) == len(firing.link) + 10
    assert firing.as_text(1) == f"\n{firing.link}"


def test_ids() -> None:
    """The same match of the same journal gives the same id; another journal, sequence, time or alert another one."""
    here = Match(7, 3)
    ids = [
        id_of(ALERT, HUB, here),
        id_of(ALERT, bytes(15) + b"x", here),
        id_of(ALERT, HUB, Match(7, 4)),
        id_of(ALERT, HUB, Match(8, 3)),
        id_of(alert_of(name="b"), HUB, here),
    ]
    assert len(set(ids)) == len(ids)
    assert id_of(ALERT, HUB, Match(7, 3)) == ids[0]
    trial = trial_of(ALERT, HUB, 5)
    assert (trial.test, trial.text) == (True, "test of a: 1 message within 1m")


def test_samples(tmp_path: Path) -> None:
    """They are the first and last three of the matches, read from the journal; what it no longer has is left out."""

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(1, 2, 3, 4), batch({"x": "y" * 100_000}), numbered(6, 7, 8)])
            window, read = Window(Rule(8, SECOND, 0)), lambda after: rig.journal.read(after=after)
            found = [each for number in range(1, 9) if (each := window.match(1, number)) is not None]
            assert [m.sequence for m in samples_of(found[0], read)] == [1, 2, 3, 6, 7, 8]
            assert [m.record["n"] for m in samples_of(fired(4, 6), read)] == [4, 6]
            assert [m.record for m in samples_of(fired(5), read)] == [{"x": "y" * 100_000}]
            assert samples_of(fired(9), read) == []

    asyncio.run(main())
