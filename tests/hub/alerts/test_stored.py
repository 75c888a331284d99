"""hub.alerts.stored: a firing is one message under `mpsr.alert`, however often it is reported."""

from __future__ import annotations

import pytest

from hub.alerts.firing import Firing, firing_of, trial_of
from hub.alerts.stored import Stored
from hub.alerts.window import Fired, Match
from hub.message import ALERT_TAG, Position
from hub.sinks.sink import Halted
from tests.hub.alerts.watching import AloneWatching, alert_of, message

ALERT = alert_of()


def firing(sequence: int) -> Firing:
    here = Match(sequence, sequence)
    return firing_of(ALERT, bytes(16), Fired(here, here, 1, 1, (sequence,)), [message(sequence)])


def stored(host: AloneWatching) -> Stored:
    return Stored(ALERT, position=host.position, store=host.store)


def test_it_is_a_message() -> None:
    """Its text is that of the firing; the samples are in the record."""
    host = AloneWatching()
    stored(host).report(firing(7))
    (batch,) = host.stored
    (found,) = batch.messages()
    assert (batch.tag, found.record["message"], found.record["level"]) == (ALERT_TAG, "a: 1 message", "warning")
    assert (found.record["id"], found.record["samples"][0]["message"]["record"]) == (firing(7).id, {"message": "m7"})
    assert host.positions == {b"alert:a": Position(b"alert:a", 7)}


def test_it_is_stored_once() -> None:
    """Also if the hub was killed after it was stored; a later firing is stored, and tests each time."""
    host = AloneWatching()
    host.dies_after_storing = True
    with pytest.raises(Halted):
        stored(host).report(firing(7))
    host.dies_after_storing = False
    for each in (firing(7), firing(9), firing(9)):
        stored(host).report(each)
    assert [next(iter(batch.messages())).record["last"]["sequence"] for batch in host.stored] == [7, 9]
    for _ in range(2):
        stored(host).report(trial_of(ALERT, bytes(16), 5))
    assert len(host.stored) == 4
    stored(host).report(firing(9))
    assert len(host.stored) == 4
