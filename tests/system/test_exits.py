"""
Every way a process begins, combined with every way it ends, while the hub runs, is away, or is killed: each message
that `send` accepted arrives once.

Each test runs all beginnings at once, each in a separate program, whose workers end in all ways.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hub.message import Message
from hub.wire.spoolfile import folder_beside
from tests.support import PATIENCE_S, HubProcess, eventually

METHODS = ("fork", "spawn", "forkserver", "os.fork", "os.fork while sending", "C fork")
EXITS = ("return", "sys.exit", "exception", "_exit", "SIGTERM", "SIGKILL", "SIGTERM and sys.exit")
SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGKILL": signal.SIGKILL, "SIGTERM and sys.exit": signal.SIGTERM}
HALF, COUNT, COUNT_MAX = 100, 200, 4000
PROGRAM = """
import ctypes, multiprocessing, os, signal, sys, threading
from producers import Producer

METHOD, SOCKET, FOLDER, HALF, COUNT, COUNT_MAX, EXITS = *sys.argv[1:4], *map(int, sys.argv[4:7]), sys.argv[7:]
producer = Producer(SOCKET)


def work(how):
    signal.alarm(90)
    if how == "SIGTERM and sys.exit":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
    told = os.open(f"{FOLDER}/{METHOD}: {how}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(COUNT_MAX if how.startswith("SIG") else COUNT):
        if number == HALF:
            os.write(told, b"half %d\\n" % os.getpid())
            open(f"{FOLDER}/gate {METHOD}: {how}").close()
        producer.send({"n": number}, tag=f"{METHOD}: {how}")
        os.write(told, b".\\n")
    if how == "sys.exit":
        sys.exit(4)
    if how == "exception":
        raise KeyError(how)
    if how == "_exit":
        os._exit(3)
    if how != "return":
        signal.pause()


def send_as_parent():
    number = 0
    while number < COUNT or (METHOD.endswith("sending") and not stop.is_set()):
        producer.send({"n": number}, tag=f"{METHOD}: parent")
        number += 1


def main():
    fork = ctypes.PyDLL(None).fork if METHOD == "C fork" else os.fork
    if METHOD == "C fork":  # else Python itself waits for ever in a child that was forked while a thread asked its turn
        sys.setswitchinterval(1000)
    sending = threading.Thread(target=send_as_parent)
    sending.start()
    if METHOD != "os.fork while sending":
        sending.join()
    pids, workers = [], []
    for how in EXITS:
        if METHOD in ("os.fork", "os.fork while sending", "C fork"):
            pid = fork()
            if pid == 0:
                work(how)
                return
            pids.append(pid)
        else:
            worker = multiprocessing.get_context(METHOD).Process(target=work, args=(how,))
            worker.start()
            workers.append(worker)
    stop.set()
    sending.join()
    for pid in pids:
        os.waitpid(pid, 0)
    for worker in workers:
        worker.join()


stop = threading.Event()
if __name__ == "__main__":
    main()
"""


class Families:
    """One program per beginning, with one worker per ending."""

    def __init__(self, folder: Path, socket: str) -> None:
        self._folder = folder
        program = folder / "family.py"
        program.write_text(PROGRAM)
        self.workers = [f"{method}: {how}" for method in METHODS for how in EXITS]
        for worker in self.workers:
            os.mkfifo(folder / f"gate {worker}")
        numbers = [str(number) for number in (HALF, COUNT, COUNT_MAX)]
        self.pids: dict[str, int] = {}
        self._parents = {}
        for method in METHODS:
            command = [sys.executable, str(program), method, socket, str(folder), *numbers, *EXITS]
            with (folder / f"{method}.err").open("wb") as errors:
                self._parents[method] = subprocess.Popen(command, stderr=errors, start_new_session=True)
            self.pids[f"{method}: parent"] = self._parents[method].pid

    def until_half(self) -> None:
        """Wait until each worker has sent half and waits at its gate."""
        for worker in self.workers:
            line = eventually(lambda: b"half " in (text := self._told(worker)) and text, worker).split(b"half ")[1]  # noqa: B023
            self.pids[worker] = int(line.split()[0])

    def go_on(self) -> None:
        """Let all workers continue."""
        for worker in self.workers:
            (self._folder / f"gate {worker}").open("wb").close()

    def end(self) -> None:
        """Kill the workers that do not end by themselves, while they send; wait for all."""
        for worker in self.workers:
            if (number := SIGNALS.get(worker.partition(": ")[2])) is not None:
                eventually(lambda: self.told(worker) > COUNT, worker)  # noqa: B023
                os.kill(self.pids[worker], number)
        for method, parent in self._parents.items():
            assert parent.wait(2 * PATIENCE_S) == 0, (self._folder / f"{method}.err").read_text()

    def kill(self) -> None:
        """Kill every remaining process, whatever the result of the test."""
        for parent in self._parents.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)
            parent.wait()

    def told(self, worker: str) -> int:
        """Return the number of calls of `send` that returned, as far as the worker reported them."""
        return self._told(worker).count(b".\n")

    def _told(self, worker: str) -> bytes:
        path = self._folder / worker
        return path.read_bytes() if path.exists() else b""


def check(families: Families, messages: list[Message]) -> None:
    """Fail unless every sent message is stored once, in order, from the right process."""
    by_tag: dict[str, list[Message]] = {}
    for message in messages:
        by_tag.setdefault(message.tag, []).append(message)
    assert set(by_tag) == set(families.pids), "no losses, and nothing else"
    for tag, own in by_tag.items():
        numbers = [message.record["n"] for message in own]
        assert numbers == list(range(len(numbers))), f"{tag}: once and in order"
        assert {message.peer.pid for message in own} == {families.pids[tag]}, f"{tag}: who it was"
        assert {message.peer.uid for message in own} == {os.getuid()}
    for worker in families.workers:
        sent, told = len(by_tag[worker]), families.told(worker)
        is_killed = worker.partition(": ")[2] in SIGNALS
        assert told <= sent <= told + 1 if is_killed else told == sent == COUNT, worker


@pytest.mark.timeout(240, method="signal")
@pytest.mark.parametrize("hub_is", ["up", "down", "killed"])
def test_every_beginning_and_every_end(folder: Path, hub_is: str) -> None:
    """Messages sent before any end of a process of any beginning are stored once, in order, as its own."""
    with HubProcess(folder) as hub:
        if hub_is == "down":
            hub.kill()  # it has made the spool folder
        families = Families(folder, hub.socket)
        try:
            families.until_half()
            if hub_is == "killed":
                hub.kill()
            families.go_on()
            if hub_is == "killed":
                hub.start()
            families.end()
        finally:
            families.kill()
        if hub_is == "down":
            hub.start()
        spool = folder_beside(hub.socket)
        eventually(lambda: not os.listdir(spool), "what the dead left is adopted")
        assert hub.stop() == 0
        check(families, hub.messages())
