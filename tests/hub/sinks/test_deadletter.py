"""hub.sinks.deadletter: what sinks lose and refuse is stored."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from hub.errors import HubClosed
from hub.message import Message, Peer
from hub.sinks.deadletter import BYTES_MAX, dead_letters
from tests.hub.clients import until
from tests.hub.sinks.delivering import Rig, hub_in, numbered

MESSAGE = Message("app", 1, {"n": 1}, 7, 2)


def test_a_loss_is_stored_before_it_returns(tmp_path: Path) -> None:
    """It has the name of the sink, the reason and the number, and counts as a loss of the hub."""

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.reports.lost("a", 3, "expired")
            (message,) = rig.stored("mpsr.loss")
            assert (message.record["reason"], message.record["count"]) == ("sink a: expired", 3)
            assert (message.peer.pid, message.peer.comm) == (os.getpid(), "mpsr")
            assert rig.endpoint.metrics.losses == 3

    asyncio.run(main())


def test_a_dead_letter_has_reason_and_bytes(tmp_path: Path) -> None:
    """Sink, reason, sequence and tag, and the message as JSON; of a message that was not decoded, the size."""

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.reports.dead(dead_letters("a", (MESSAGE,), "too old"))
            await rig.reports.dead(dead_letters("a", (MESSAGE,), "too large", 70))
            first, second = (message.record for message in rig.stored("mpsr.dead"))
            entry = first.pop("entry")
            assert '"sequence":7' in entry
            assert first == {"sink": "a", "reason": "too old", "sequence": 7, "tag": "app", "bytes": len(entry)}
            assert second == {"sink": "a", "reason": "too large", "sequence": 7, "tag": "app", "bytes": 70}

    asyncio.run(main())


def test_a_long_message_is_cut() -> None:
    """A dead letter has a limit."""
    long = Message("app", 1, {"n": "x" * 2 * BYTES_MAX}, 7, 2)
    (letters,) = dead_letters("a", (long,), "no")
    (letter,) = letters.messages()
    assert len(letter.record["entry"]) == BYTES_MAX
    assert letter.record["bytes"] > 2 * BYTES_MAX


def test_many_letters_are_few_batches() -> None:
    """Each has about the size of one long letter, and they keep the order. Nothing refused is no batch."""
    messages = [Message("app", 1, {"n": "x" * (BYTES_MAX // 3)}, number, 2) for number in range(1, 6)]
    batches = dead_letters("a", messages, "no")
    found = [[message.record["sequence"] for message in batch.messages()] for batch in batches]
    assert found == [[1, 2, 3], [4, 5]]
    assert dead_letters("a", (), "no") == []


def test_the_tag_is_the_hubs(tmp_path: Path) -> None:
    """What a client sends under it is stored under another one."""

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await from_client(rig)
            assert rig.stored("mpsr.dead") == []
            assert len(rig.stored("mpsr.dead.client")) == 1

    async def from_client(rig: Rig) -> None:
        from hub.access import Gate

        intake = rig.endpoint.intake(Peer(), Gate(rig.endpoint.access, Peer(), lambda: None))
        await intake.take([numbered(1, tag=b"mpsr.dead")])
        await intake.all_settled()

    asyncio.run(main())


def test_a_journal_that_takes_nothing_is_not_waited_for(tmp_path: Path) -> None:
    """It may wait for the sink; the report is stored when it takes something again. A hub that is closed raises."""

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            rig.journal.is_failing = True
            await rig.reports.dead(dead_letters("a", (MESSAGE,), "no"))
            await until(lambda: len(rig.stored("mpsr.dead")) == 1)
            rig.endpoint.inbox.close()
            with pytest.raises(HubClosed):
                await rig.reports.dead(dead_letters("a", (MESSAGE,), "no"))

    asyncio.run(main())
