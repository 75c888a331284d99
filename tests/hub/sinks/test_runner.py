"""hub.sinks.runner: order, retries, the cursor, what is missing or refused, orders, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from hub.delays import Delays
from hub.errors import HubClosed
from hub.journal.cursors import Cursor
from hub.sinks import runner as module
from hub.sinks.kinds import SinkTable
from hub.sinks.runner import Runner
from hub.sinks.sink import SinkFault
from tests.hub.clients import until
from tests.hub.sinks.delivering import TABLE, Memory, MemorySink, Rig, batch, hub_in, numbered


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER_S", 0.001)


def run_in(rig: Rig, memory: Memory, **table: Any) -> Runner:
    return Runner(
        msgspec.structs.replace(TABLE, **table),
        rig.journal,
        rig.reports,
        make_sink=memory.make,
        delays=Delays(0.001, 0.001, lambda: 0.0),
    )


@contextlib.asynccontextmanager
async def running(rig: Rig, memory: Memory, **table: Any) -> AsyncIterator[Runner]:
    runner = run_in(rig, memory, **table)
    try:
        yield runner
    finally:
        await runner.stop(30)


def events(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]


def test_everything_is_delivered_in_order_and_the_next_one_goes_on(tmp_path: Path) -> None:
    """Also what is committed while it runs; a stop delivers the rest and stores the cursor with the sink's detail."""
    memory = Memory()

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(1, 2, 3, 4, 5)])
            async with running(rig, memory) as runner:
                await until(lambda: memory.numbers == [1, 2, 3, 4, 5])
                await rig.journal.append([numbered(6)])
                await until(lambda: memory.numbers == [1, 2, 3, 4, 5, 6])
                await rig.journal.append([numbered(7)])
            assert memory.numbers == [1, 2, 3, 4, 5, 6, 7]
            assert rig.journal.cursors.read("a") == Cursor(7, False, b"7")
            assert runner.needed_from == 8
            row = runner.row()
            assert (row["state"], row["sequence"], row["messages"]) == ("closed", 7, 7)
            assert row["lag"] == {"messages": 0, "bytes": 0, "seconds": 0.0}
            assert row["rate"] == 0.7
            async with running(rig, memory):
                await rig.journal.append([numbered(8)])
            assert memory.numbers == [*range(1, 9)]
            assert [call for call in memory.calls if "open" in call] == ["open 0 ", "open 7 7"]

    asyncio.run(main())


def test_a_new_sink_begins_at_the_end_or_at_the_start(tmp_path: Path) -> None:
    """By default it delivers what is committed after it was added."""

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(1)])
            end, start = Memory(), Memory()
            async with running(rig, end, begin="end", name="end"), running(rig, start, name="start"):
                await rig.journal.append([numbered(2)])
            assert (end.numbers, start.numbers) == ([2], [1, 2])

    asyncio.run(main())


def test_after_a_fault_the_same_messages_come_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A fresh sink begins after the cursor, in order; a fault is logged once, and counted each time."""
    memory = Memory()
    memory.faults = [SinkFault("it is away"), SinkFault("it is away"), OSError(28, "No space left on device")]

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(*range(10))])
            async with running(rig, memory) as runner:
                await until(lambda: len(memory.got) == 10)
                await until(lambda: runner.row()["state"] == "open")
                row = runner.row()
                assert (row["retries"], row["last_error"]) == (3, "No space left on device")
            assert memory.numbers == [*range(10)]

    asyncio.run(main())
    assert [event for event in events(capsys) if event != "sink.opened"] == ["sink.failed", "sink.failed"]


def test_who_reads_that_it_failed_finds_it_in_the_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row is written before the log, so that a reader of the log who asks for the row sees the fault."""
    memory = Memory()
    memory.faults = [SinkFault("it is away")]
    rows: list[dict[str, Any]] = []

    async def main() -> None:
        async with hub_in(tmp_path) as rig, running(rig, memory) as runner:
            quiet = SimpleNamespace(info=lambda *_, **__: None, error=lambda *_, **__: rows.append(runner.row()))
            monkeypatch.setattr(module, "log", quiet)
            await rig.journal.append([numbered(1)])
            await until(lambda: memory.numbers == [1])

    asyncio.run(main())
    assert [(row["state"], row["last_error"], row["retries"]) for row in rows] == [("failed", "it is away", 1)]


def test_what_is_safe_is_not_delivered_again(tmp_path: Path) -> None:
    """A sink that fails, and knows how far its destination has come, moves the cursor."""
    memory = Memory()
    memory.faults, memory.safe = [SinkFault("ended")], 2

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(1, 2, 3)])
            async with running(rig, memory):
                await until(lambda: memory.got)
            assert memory.numbers == [3]
            assert "open 2 " in memory.calls

    asyncio.run(main())


def test_what_has_expired_is_a_loss_of_the_sink(tmp_path: Path) -> None:
    """With ``expire``, the messages that are gone are reported, and it goes on with the others."""
    memory = Memory()
    memory.may_go.clear()

    async def main() -> None:
        async with hub_in(tmp_path, retain_bytes=4 << 20) as rig:
            await rig.journal.append([numbered(0)])
            async with running(rig, memory) as runner:
                assert await asyncio.to_thread(memory.is_blocked.wait, 30)
                for _ in range(30):
                    await rig.journal.append([batch({"n": 1, "filling": "x" * 250_000}, {"n": 2})])
                await rig.journal.expire()
                first = rig.journal.first_sequence()
                assert first > 2
                memory.go()
                await until(lambda: runner.row()["lag"]["messages"] == 0)
                assert runner.row()["lost"] > 0
            losses = [m for m in rig.stored("mpsr.loss") if m.record["reason"].startswith("sink a: ")]
            assert sum(message.record["count"] for message in losses) == runner.row()["lost"]
            delivered = [message.sequence for message in memory.got]
            assert delivered == sorted(set(delivered))
            assert len(delivered) + runner.row()["lost"] == runner.row()["sequence"]

    asyncio.run(main())


def test_what_is_refused_is_stored_and_the_sink_goes_on(tmp_path: Path) -> None:
    """The message is under `mpsr.dead` before the cursor passes it; it does not come back."""
    memory = Memory()
    memory.refusing = {2: "too old"}

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(1, 2, 3)])
            async with running(rig, memory) as runner:
                await until(lambda: runner.row()["sequence"] == 4)
                assert runner.row()["dead"] == 1
            (dead,) = rig.stored("mpsr.dead")
            assert (dead.record["sequence"], dead.record["reason"]) == (2, "too old")
            assert memory.numbers == [1, 3]

    asyncio.run(main())


def test_a_blocked_destination_is_left_in_time(tmp_path: Path) -> None:
    """A stop takes no longer than it may; what was not delivered is delivered by the next one, once."""
    memory = Memory()
    memory.may_go.clear()

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(1, 2)])
            runner = run_in(rig, memory)
            assert await asyncio.to_thread(memory.is_blocked.wait, 30)
            await until(lambda: runner.row()["lag"]["messages"] == 2)
            assert runner.row()["lag"]["bytes"] > 0
            await runner.stop(0.01)
            assert (memory.numbers, runner.row()["state"]) == ([], "closed")
            memory.go()
            async with running(rig, memory):
                pass
            assert memory.numbers == [1, 2]

    asyncio.run(main())


def test_pause_holds_also_after_a_restart(tmp_path: Path) -> None:
    """A paused sink delivers nothing until it is resumed, and a stop does not wait for it."""
    memory = Memory()

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            async with running(rig, memory) as runner:
                await runner.pause(True)
                await until(lambda: runner.row()["state"] == "paused")
                await rig.journal.append([numbered(1)])
            async with running(rig, memory) as runner:
                await until(lambda: runner.row()["state"] == "paused")
                assert memory.got == []
                assert runner.row()["lag"]["messages"] == 1
                await until(lambda: runner.row()["lag"]["seconds"] > 0)
                await runner.pause(False)
                await until(lambda: memory.numbers == [1])
            with pytest.raises(HubClosed):
                await runner.pause(True)

    asyncio.run(main())


def test_the_state_before_the_destination_is_open(tmp_path: Path) -> None:
    """It is opening at the beginning and after a pause. A fault stays until it is over, and a rewind closes nothing."""
    memory, states = Memory(), []

    def make(table: SinkTable, host: Any) -> MemorySink:
        states.append(host.row()["state"])
        return memory.make(table, host)

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            runner = Runner(TABLE, rig.journal, rig.reports, make_sink=make, delays=Delays(0.001, 0.001, lambda: 0.0))
            await until(lambda: runner.row()["state"] == "open")
            await runner.pause(True)
            await runner.pause(False)
            await until(lambda: runner.row()["state"] == "open")
            await runner.rewind(None)
            memory.faults = [SinkFault("it is away")]
            await rig.journal.append([numbered(1)])
            await until(lambda: memory.numbers == [1])
            await runner.stop(30)

    asyncio.run(main())
    assert states == ["opening", "opening", "open", "failed"]


def test_an_order_interrupts_a_blocked_destination(tmp_path: Path) -> None:
    """A pause does not wait until the destination takes the messages at hand."""
    memory = Memory()
    memory.may_go.clear()

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(1)])
            async with running(rig, memory) as runner:
                assert await asyncio.to_thread(memory.is_blocked.wait, 30)
                await runner.pause(True)
                memory.go()
                await until(lambda: runner.row()["state"] == "paused")
                assert memory.got == []

    asyncio.run(main())


@pytest.mark.parametrize(("to", "goes_on"), [(None, 1), (3, 3), (0, 1), (99, 5)])
def test_rewind(tmp_path: Path, to: int | None, goes_on: int) -> None:
    """It goes on at the sequence; without one, at the first message; beyond the end, at the end."""
    memory = Memory()

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(1, 2, 3, 4)])
            async with running(rig, memory) as runner:
                await until(lambda: len(memory.got) == 4)
                assert await runner.rewind(to) == goes_on
                expected = [1, 2, 3, 4, *range(goes_on, 5)]
                await until(lambda: len(memory.got) == len(expected))
                assert memory.numbers == expected

    asyncio.run(main())


def test_rewinds_are_counted(tmp_path: Path) -> None:
    """The number is stored, and holds also after faults and a restart: ids of what is delivered again depend on it."""
    memory = Memory()

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(1, 2, 3)])
            async with running(rig, memory) as runner:
                await until(lambda: memory.numbers == [1, 2, 3])
                await runner.rewind(2)
                assert runner.rewinds == 1
                await until(lambda: memory.numbers == [1, 2, 3, 2, 3])
                memory.safe, memory.faults = 4, [SinkFault("it is away")]
                await rig.journal.append([numbered(4)])
                await until(lambda: runner.row()["retries"] == 1)
                await runner.pause(True)
                await runner.pause(False)
                await rig.journal.append([numbered(5)])
                await until(lambda: memory.numbers == [1, 2, 3, 2, 3, 5])
            async with running(rig, memory) as runner:
                await until(lambda: runner.needed_from == 6)
                assert (runner.rewinds, runner.hub_id) == (1, rig.journal.hub_id)

    asyncio.run(main())


def test_rewind_to_a_time(tmp_path: Path) -> None:
    """It goes on at the first message that was received at the time or later; without one, at the end."""
    memory = Memory()

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(1)])
            await rig.journal.append([numbered(2)])
            async with running(rig, memory) as runner:
                await until(lambda: len(memory.got) == 2)
                assert await runner.rewind(None, since=memory.got[1].received) == 2
                assert await runner.rewind(None, since=0) == 1
                assert await runner.rewind(None, since=1 << 62) == 3

    asyncio.run(main())


def test_a_damaged_cursor_repeats_rather_than_loses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is logged, and everything that the journal holds is delivered; the next cursor is whole."""
    memory = Memory()

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(1, 2)])
            (tmp_path / "j" / "a.cursor").write_bytes(b"MPSRCUR\nnonsense")
            async with running(rig, memory, begin="end"):
                await until(lambda: memory.numbers == [1, 2])
            assert rig.journal.cursors.read("a") == Cursor(2, False, b"2")

    asyncio.run(main())
    assert "sink.cursor_damaged" in events(capsys)


def test_a_cursor_beyond_the_end_goes_on_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A power cut may have cost the journal what a destination has; the sequences are given again."""
    memory = Memory()

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(1)])
            rig.journal.cursors.write("a", Cursor(70))
            async with running(rig, memory) as runner:
                await until(lambda: runner.needed_from == 2)
                await rig.journal.append([numbered(2)])
            assert memory.numbers == [2]
            assert runner.rewinds == 1  # what has those sequences is something else

    asyncio.run(main())
    assert "sink.cursor_ahead" in events(capsys)


def test_what_is_too_large_is_a_dead_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is not decoded; those around it are delivered."""
    monkeypatch.setattr("hub.sinks.forms.ENTRY_BYTES_MAX", 100_000)
    memory = Memory()

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([batch({"n": 1}, {"n": 2, "x": "x" * 200_000}, {"n": 3})])
            async with running(rig, memory) as runner:
                await until(lambda: runner.row()["dead"] == 1 and len(memory.got) == 2)
            assert memory.numbers == [1, 3]
            (dead,) = rig.stored("mpsr.dead")
            assert dead.record["reason"] == "too large to be decoded"
            assert dead.record["bytes"] > 200_000

    asyncio.run(main())


def test_an_order_whose_caller_has_left_is_left_out(tmp_path: Path) -> None:
    """It harms neither the sink nor the next order."""
    memory = Memory()
    memory.may_go.clear()
    memory.is_deaf = True  # the order is not carried out before its caller has left

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(1)])
            async with running(rig, memory) as runner:
                assert await asyncio.to_thread(memory.is_blocked.wait, 30)
                left = asyncio.create_task(runner.pause(True))
                await asyncio.sleep(0)
                left.cancel()
                await asyncio.wait({left})
                memory.go()
                assert await runner.rewind(None) == 1
                await until(lambda: memory.numbers[-1:] == [1])
                assert runner.row()["retries"] == 0

    asyncio.run(main())


def test_a_hub_that_stores_nothing_more_is_left_alone(tmp_path: Path) -> None:
    """What a sink cannot report any longer, the next one reports."""
    memory = Memory()
    memory.refusing = {1: "no"}

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(1, 2)])
            rig.endpoint.inbox.close()
            async with running(rig, memory) as runner:
                await until(lambda: "close" in memory.calls)
                assert (runner.row()["dead"], runner.row()["retries"], memory.got) == (0, 0, [])
            assert rig.journal.cursors.read("a") == Cursor(0)

    asyncio.run(main())


class Deaf(MemorySink):
    """A destination that uses up the wakes that come while it is busy."""

    def deliver(self, messages: Any) -> None:
        self._memory.is_blocked.set()
        self._memory.may_go.wait()
        self._host.waker.wait(0)
        super().deliver(messages)


def test_what_comes_during_a_delivery_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the destination has used up the wake."""
    monkeypatch.setattr(module, "IDLE_S", 3600)
    monkeypatch.setattr(module, "CHECKPOINT_S", 3600)
    memory = Memory()
    memory.may_go.clear()

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(1)])
            runner = Runner(TABLE, rig.journal, rig.reports, make_sink=lambda _, host: Deaf(memory, host))
            assert await asyncio.to_thread(memory.is_blocked.wait, 30)
            await rig.journal.append([numbered(2)])
            await until(lambda: runner._seen == 2)
            memory.may_go.set()
            await until(lambda: memory.numbers == [1, 2])
            await runner.stop(30)

    asyncio.run(main())


def test_a_dead_letter_that_is_refused_is_not_stored_again(tmp_path: Path) -> None:
    """A sink that is given dead letters and refuses them does not fill the journal with them."""
    memory = Memory()
    memory.refusing = {1: "no"}

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(1, tag=b"mpsr.dead"), numbered(2)])
            async with running(rig, memory, tag=("t", "mpsr.*")) as runner:
                await until(lambda: memory.numbers == [2])
                assert runner.row()["dead"] == 1
            assert len(rig.stored("mpsr.dead")) == 1

    asyncio.run(main())


def has_passed(runner: Runner, sequence: int) -> bool:
    """Return whether the cursor is after *sequence*."""
    return (runner.needed_from or 0) > sequence


def dead_in(rig: Rig) -> list[Any]:
    return [message.record["sequence"] for message in rig.stored("mpsr.dead")]


def test_what_is_refused_again_after_a_kill_or_a_fault_is_stored_once(tmp_path: Path) -> None:
    """The journal knows in the same commit what was refused; after a rewind, it is refused anew."""
    memory = Memory()
    memory.refusing = {2: "no", 3: "no", 7: "no"}

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(*range(1, 9))])
            async with running(rig, memory) as runner:
                await until(lambda: has_passed(runner, 8))
                assert (dead_in(rig), runner.row()["dead"]) == ([2, 3, 7], 3)
            rig.journal.cursors.write("a", Cursor(0))  # as after a kill before the cursor was stored
            memory.refusing[5] = "no"
            async with running(rig, memory) as runner:
                await until(lambda: has_passed(runner, 8))
                assert (dead_in(rig), runner.row()["dead"]) == ([2, 3, 7, 5], 1)
                await runner.rewind(7)
                await until(lambda: dead_in(rig) == [2, 3, 7, 5, 7])
            rig.journal.cursors.write("a", Cursor(4, rewinds=1))
            async with running(rig, memory) as runner:
                await until(lambda: has_passed(runner, 8))
                assert dead_in(rig) == [2, 3, 7, 5, 7, 5]  # of before the rewind is no longer known

    asyncio.run(main())


def test_a_refused_message_that_comes_again_after_a_fault_is_stored_once(tmp_path: Path) -> None:
    """The fault may come after the refusal, in the same portion."""
    memory = Memory()
    memory.refusing = {1: "no"}
    faults = [SinkFault("it is away")]

    class Late(MemorySink):
        def deliver(self, messages: Any) -> None:
            super().deliver(messages)
            if faults:
                raise faults.pop()

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(1, 2)])
            runner = Runner(
                TABLE, rig.journal, rig.reports, make_sink=lambda _, host: Late(memory, host),
                delays=Delays(0.001, 0.001, lambda: 0.0),
            )  # fmt: skip
            await until(lambda: has_passed(runner, 2))
            assert (memory.numbers, dead_in(rig), runner.row()["retries"]) == ([2, 2], [1], 1)
            await runner.stop(30)

    asyncio.run(main())


def test_a_loss_is_reported_once_after_a_kill(tmp_path: Path) -> None:
    """What has expired meanwhile is added, and counts by itself."""

    def losses(rig: Rig) -> list[Any]:
        return [message.record["count"] for message in rig.stored("mpsr.loss")]

    async def main() -> None:
        async with hub_in(tmp_path, retain_bytes=4 << 20) as rig:
            lost = []
            for _ in range(2):
                for _ in range(30):
                    await rig.journal.append([batch({"n": 1, "filling": "x" * 250_000}, {"n": 2})])
                await rig.journal.expire()
                for _ in range(2):  # the second one begins as after a kill before the cursor was stored
                    rig.journal.cursors.write("a", Cursor(0))
                    async with running(rig, Memory()) as runner:
                        last = rig.journal.last_sequence
                        await until(functools.partial(has_passed, runner, last))
                    lost.append(runner.row()["lost"])
            assert lost[0] > 0
            assert lost[2] > 0
            assert lost[1::2] == [0, 0]
            assert sum(lost) == rig.journal.first_sequence() - 1
            assert losses(rig) == lost[2::2]  # the first report has expired, too

    asyncio.run(main())


def test_refusals_do_not_fill_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Any user may send what a destination refuses: the first is logged, and all are counted."""
    memory = Memory()
    memory.refusing = dict.fromkeys(range(1, 10), "no")

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(*range(1, 10))])
            async with running(rig, memory) as runner:
                await until(lambda: runner.row()["dead"] == 9)
            assert len(rig.stored("mpsr.dead")) == 9

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hub.sinks.reporter.REFUSED_S", 3600.0)
        asyncio.run(main())
    assert events(capsys).count("sink.refused") == 1


class Stuck(MemorySink):
    """A destination whose call does not return until the test lets it."""

    def deliver(self, messages: Any) -> None:
        self._memory.is_blocked.set()
        self._memory.may_go.wait()


def test_a_call_that_does_not_return_is_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hub ends without it, and says so."""
    monkeypatch.setattr(module, "HALT_S", 0.01)
    memory = Memory()
    memory.may_go.clear()

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(1)])
            runner = Runner(TABLE, rig.journal, rig.reports, make_sink=lambda _, host: Stuck(memory, host))
            assert await asyncio.to_thread(memory.is_blocked.wait, 30)
            await runner.stop(0.01)
            assert "sink.abandoned" in events(capsys)
            memory.may_go.set()
            await until(lambda: runner.row()["state"] == "closed")

    asyncio.run(main())


def stored_in(rig: Rig, memory: Memory, **table: Any) -> Runner:
    return Runner(
        msgspec.structs.replace(TABLE, **table),
        rig.journal,
        rig.reports,
        make_sink=memory.make_stored,
        delays=Delays(0.001, 0.001, lambda: 0.0),
    )


def test_a_sink_of_stored_batches_is_followed_like_any_other(tmp_path: Path) -> None:
    """All messages arrive, once, in order, filtered; the cursor covers what is settled, and each message counts."""
    memory = Memory()

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(*range(40)), numbered(99, tag=b"other")])
            runner = stored_in(rig, memory, tag=("t",))
            await until(lambda: memory.numbers == [*range(40)])
            await rig.journal.append([numbered(40)])
            await runner.stop(30)
            assert memory.numbers == [*range(41)]
            assert runner.row()["messages"] == 41
            assert rig.journal.cursors.read("a") == Cursor(42, False, b"settled")

    asyncio.run(main())


def test_stored_batches_after_the_last_safe_one_come_again(tmp_path: Path) -> None:
    """A fault with batches in flight repeats none that the destination has confirmed."""
    memory = Memory()

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(*range(5))])
            runner = stored_in(rig, memory)
            await until(lambda: memory.numbers == [*range(5)])
            memory.faults = [SinkFault("it is away")]
            await rig.journal.append([numbered(*range(5, 10))])
            await until(lambda: runner.row()["retries"] == 1)
            await until(lambda: memory.numbers == [*range(10)])
            assert [call for call in memory.calls if "open" in call] == ["open 0 ", "open 5 "]
            await runner.stop(30)

    asyncio.run(main())


def test_what_is_refused_of_stored_batches_is_stored_message_by_message(tmp_path: Path) -> None:
    """Each message has its dead letter; those around the batch arrive. So has an entry that is too large."""
    memory = Memory()
    memory.refusing = {3: "not wanted"}

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            large = batch({"n": 6, "filling": "x" * 200})
            for each in (numbered(1, 2), numbered(3, 4), numbered(5), large, numbered(7)):
                await rig.journal.append([each])  # one by one: those of one commit would share a block
            runner = stored_in(rig, memory)
            await until(lambda: memory.numbers == [1, 2, 5, 7])
            found = [(m.record["sequence"], m.record["reason"]) for m in rig.stored("mpsr.dead")]
            assert found == [(3, "not wanted"), (4, "not wanted"), (6, "too large to be decoded")]
            assert runner.row()["dead"] == 3
            await runner.stop(30)

    asyncio.run(main())
