"""Messages without room: waited for, dropped, counted, reported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hub.wire.multiline import Moment
from producers import Producer
from producers.record import pack_entry
from producers.spawn.console import Console
from producers.spawn.delivery import Delivery, Parcel
from producers.spawn.lines import LineRun, pack
from tests.support import HubProcess


def parcel(number: int, tag: str = "w.1") -> Parcel:
    lines = [b"%d.%d" % (number, line) + b"x" * 50 for line in range(10)]
    return Parcel(tag, pack(LineRun(lines, Moment(1, 1)), "stdout"), len(lines), lines, tag)


def test_messages_without_room_are_dropped_and_reported(folder: Path) -> None:
    """With a full backlog and no hub, later messages are dropped; when the hub is back, a loss takes their place."""
    path = str(folder / "hub.sock")
    with Producer(path, backlog_bytes_max=20_000, spool=False) as producer:
        delivery = Delivery(producer, None, patience_s=0.05)
        kept = 0
        while delivery.offer(parcel(kept)):
            kept += 1
        for number in range(kept, kept + 5):
            delivery.insist(parcel(number))  # the first waits until patience runs out, the others not at all
        assert (delivery.dropped, delivery.dropped_bytes > 2500) == (50, True)
        assert delivery.offer(parcel(0)), "without patience it is dropped at once"
        assert delivery.dropped == 60
        with HubProcess(folder) as hub:
            producer.flush(30)
            delivery.insist(parcel(1000))
            producer.flush(30)
            (loss,) = hub.messages("mpsr.loss.client")
            assert (loss.record["count"], loss.record["tag"]) == (60, "w.1")
            texts = [message.record["message"] for message in hub.messages("w.1")]
            numbers = [*range(kept), 1000]
            assert texts == [f"{number}.{line}" + "x" * 50 for number in numbers for line in range(10)]
            assert hub.messages("w.1")[-10].sequence == loss.sequence + 1
            assert hub.stop() == 0


def test_a_console_that_stands_still_stops_nobody(folder: Path) -> None:
    """Lines without room on the console are left out, and their number is shown; the hub gets all of them."""
    read_end, write_end = os.pipe()
    with HubProcess(folder) as hub, Producer(hub.socket) as producer:
        console = Console(write_end, ["w.1"], is_coloured=False)
        delivery = Delivery(producer, console, patience_s=0.05)
        big = [b"y" * 100_000]
        entries = pack(LineRun(big, Moment(1, 1)), "stdout")
        for _ in range(60):
            one = Parcel("w.1", entries, 1, big, "w.1")
            if not delivery.offer(one):
                delivery.insist(one)
        assert console.hidden > 0
        producer.flush(30)
        assert len(hub.messages("w.1")) == 60
        shown = 0
        while shown < (60 - console.hidden) * 100_000:
            shown += os.read(read_end, 1 << 20).count(b"y")
        delivery.offer(Parcel("w.1", pack_entry(b"\x80", 1), 1, [b"again"], "w.1"))
        console.close()
        output = os.read(read_end, 1 << 16)
        assert b"%d lines are not shown" % console.hidden in output
        assert output.endswith(b"w.1  | again\n")
        os.close(read_end)
        os.close(write_end)


@pytest.mark.parametrize("is_coloured", [False, True])
def test_lines_on_the_console(is_coloured: bool) -> None:
    """Every line of a message has time, name and text; names are padded to the widest."""
    read_end, write_end = os.pipe()
    console = Console(write_end, ["web.1", "worker.10"], is_coloured=is_coloured)
    assert console.show("web.1", [b"a\nb", b"\xff"])
    assert console.show("worker.10", [b"c"])
    console.close()
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        lines = [line[9:] for line in pipe]
    web = b"\x1b[36mweb.1     |\x1b[0m " if is_coloured else b"web.1     | "
    worker = b"\x1b[33mworker.10 |\x1b[0m " if is_coloured else b"worker.10 | "
    assert lines == [web + b"a\n", web + b"b\n", web + b"\xff\n", worker + b"c\n"]


def test_a_console_that_is_not_read_any_more(folder: Path) -> None:
    """A closed pipe affects only the console."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    console = Console(write_end, ["w.1"], is_coloured=False)
    for _ in range(200):
        assert console.show("w.1", [b"z" * 100_000], timeout=30)
    console.close()
    os.close(write_end)
