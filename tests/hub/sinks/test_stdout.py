"""hub.sinks.stdout: prints committed messages without delaying the hub."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

from hub import Batch, Journal
from hub import entries as codec
from hub.journal.reader import Gap
from hub.sinks.stdout import Printer


def batch(number: int) -> Batch:
    return Batch(b"t", codec.join((codec.stamp(1) + b"\x81\xa1n" + bytes((number,)),), 1), 1)


def test_everything_committed_from_the_start_on_is_printed_in_order(tmp_path: Path) -> None:
    """Earlier messages are not printed; everything committed until the end is, once."""
    printed: list[int] = []

    def print_batch(found: Batch | Gap) -> None:
        assert isinstance(found, Batch)
        printed.extend(message.record["n"] for message in found.messages())

    async def scenario() -> None:
        journal = await Journal.open(str(tmp_path / "j"))
        await journal.append([batch(0)])
        printer = Printer(journal, print_batch)
        running = asyncio.create_task(printer.run())
        for number in range(1, 100):
            await journal.append([batch(number)])
        await printer.stop(30)
        await running
        await journal.close()

    asyncio.run(scenario())
    assert printed == list(range(1, 100))


def test_one_who_does_not_look_holds_nothing_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While *print_batch* blocks, commits continue, and `stop` returns at its timeout, which is logged."""
    released = threading.Event()

    def print_batch(_: Batch | Gap) -> None:
        released.wait()

    async def scenario() -> None:
        journal = await Journal.open(str(tmp_path / "j"))
        printer = Printer(journal, print_batch)
        running = asyncio.create_task(printer.run())
        for number in range(100):
            await journal.append([batch(number)])
        await printer.stop(0.01)
        assert json.loads(capsys.readouterr().err)["event"] == "hub.output_unread"
        released.set()
        await printer.stop(30)
        await running
        await journal.close()

    asyncio.run(scenario())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("is_stopping", [False, True])
def test_an_error_on_the_thread_leaves_run(tmp_path: Path, is_stopping: bool) -> None:
    """What *print_batch* raises on its thread is raised by `run`, and by a `stop` that waits for the thread."""

    def print_batch(_: Batch | Gap) -> None:
        raise ZeroDivisionError("ours")

    async def scenario() -> None:
        journal = await Journal.open(str(tmp_path / "j"))
        printer = Printer(journal, print_batch)
        running = asyncio.create_task(printer.run())
        await journal.append([batch(0)])
        if is_stopping:
            with pytest.raises(ZeroDivisionError):
                await printer.stop(30)
        with pytest.raises(ExceptionGroup) as raised:
            await running
        assert raised.group_contains(ZeroDivisionError)
        await journal.close()

    asyncio.run(scenario())
