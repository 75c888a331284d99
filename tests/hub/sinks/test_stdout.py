"""hub.sinks.stdout: prints committed messages without delaying the hub."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path

import pytest

from hub import Batch, Journal
from hub import entries as codec
from hub.journal.reader import Gap
from hub.message import Message
from hub.sinks import stdout
from hub.sinks.stdout import PRINTED_BYTES_MAX, Printer, batch_writer


def batch(number: int) -> Batch:
    return Batch(b"t", codec.join((codec.stamp(1) + b"\x81\xa1n" + bytes((number,)),), 1), 1)


def text_of(message: Message) -> str:
    return f"{message.tag} {message.record}"


def test_a_batch_is_written_as_rendered(capfd: pytest.CaptureFixture[str]) -> None:
    """Each message is a line on descriptor 1, a gap in the journal too; a large frame is one line, not decoded."""
    write = batch_writer(text_of, lambda: pytest.fail("there is a reader"))
    write(batch(1))
    write(Gap(7, 3, "expired", "1.seg", 1))
    write(Batch(b"big\x1b", bytes(PRINTED_BYTES_MAX + 1), 1))
    first, gap, last = capfd.readouterr().out.splitlines()
    assert first == "t {'n': 1}"
    assert gap.startswith("mpsr.loss ")
    assert last == f"not printed: 1 message of big\\x1b, {PRINTED_BYTES_MAX + 1} bytes (read them with `mpsr logs`)"


def test_output_without_a_reader_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the pipe's reader has ended, *give_up* is called, and nothing is raised."""
    given_up: list[bool] = []
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(stdout, "STDOUT", writing)
    batch_writer(text_of, lambda: given_up.append(True))(batch(1))
    os.close(writing)
    assert given_up == [True]


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
