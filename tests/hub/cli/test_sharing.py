"""hub.cli.sharing: helpers take parts of a search, and what is shown is the same with them, without them, or half."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pytest

from hub import entries as codec
from hub.cli import sharing
from hub.cli.output import Encoded, Lines, encoded
from hub.cli.sharing import shared
from hub.journal.reader import Gap
from hub.message import Batch, Home, Peer

ROOT = Path(__file__).parents[3]
COUNT = 40
HELPERS = 2


def batches(count: int = COUNT) -> Iterator[Batch | Gap]:
    """Yield batches of one message, some from another hub, and some gaps, in parts of one each."""
    window = msgspec.msgpack.encode({"n": "x" * 50})
    for number in range(1, count + 1):
        if number % 7 == 0:
            yield Gap(number, 1, "damaged", f"at {number}", 5)
            continue
        home = Home("web1", b"h" * 16, number, 3) if number % 3 == 0 else None
        entries = memoryview(codec.join((codec.UNSTAMPED + window,), 1))
        yield Batch(b"app", entries, 1, peer=Peer(number), sequence=number, received=number, home=home)


def work(some: Iterable[Batch | Gap]) -> Iterator[Lines]:
    """Yield all that is known of each."""
    for found in some:
        if isinstance(found, Gap):
            yield [repr(found)]
        else:
            shown = msgspec.structs.replace(found, entries=bytes(found.entries))
            yield Encoded(1, f"{shown!r} {[*found.messages()]}\n".encode())


ALONE = encoded(work(batches()))


class Main:
    """What the process of a case does: `shared` in the smallest parts, with two helpers. The last line counts them."""

    def __init__(self, case: str) -> None:
        sharing.PART_BYTES, sharing.ALONE_S, sharing.COSTLY_NS = 1, 0.0, -1.0
        os.sched_getaffinity = lambda pid: set(range(HELPERS + 1))
        self.pid = os.getpid()
        getattr(self, case)()
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)

    def whole(self) -> None:
        """Which process has done a part is at the end of its line."""

        def told(some: Iterable[Batch | Gap]) -> Iterator[Lines]:
            for group in work(some):
                yield Encoded(1, encoded([group]).data[:-1] + b"|%d\n" % os.getpid())

        lines = encoded(shared(batches(), told)).data.splitlines()
        assert b"".join(line.rpartition(b"|")[0] + b"\n" for line in lines) == ALONE.data
        assert len({line.rpartition(b"|")[2] for line in lines}) == HELPERS + 1

    def killed(self) -> None:
        """A helper ends at the tenth batch, and the other one at the thirtieth."""

        def ends(some: Iterable[Batch | Gap]) -> Iterator[Lines]:
            part = [*some]
            if os.getpid() != self.pid and part[0].sequence in (10, 30):
                os._exit(1)
            return work(part)

        assert encoded(shared(batches(), ends)) == ALONE

    def failing(self) -> None:
        """What was read before the journal fails is shown."""

        def fails() -> Iterator[Batch | Gap]:
            yield from batches(15)
            raise OSError("gone")

        shown: list[Lines] = []
        with pytest.raises(OSError, match="gone"):
            shown.extend(shared(fails(), work))
        assert encoded(shown) == encoded(work(batches(15)))

    def left(self) -> None:
        """The reader of the output ends early."""
        showing = shared(batches(), work)
        for _ in range(5):
            next(showing)
        showing.close()  # type: ignore[attr-defined]

    def sparse(self) -> None:
        """After what costs nothing, there are no helpers, until something costs time again."""
        pids: list[bytes] = []

        def told(some: Iterable[Batch | Gap]) -> Iterator[Lines]:
            for found in some:
                sharing.COSTLY_NS = 1e12 if 10 <= found.sequence < 20 else -1.0
                yield Encoded(1, b"%d\n" % os.getpid())

        for group in shared((each for each in batches() if isinstance(each, Batch)), told):
            pids += encoded([group]).data.splitlines()
        assert len(set(pids)) == 1 + 2 * HELPERS


def test_with_helpers() -> None:
    """
    The lines and their order are those of one process, also if helpers end, or the journal fails; no helper is left.

    The cases have a process of their own, without threads.
    """
    cases = [name for name in vars(Main) if not name.startswith("_")]
    program = f"from tests.hub.cli.test_sharing import Main\nfor case in {cases}: print(case); Main(case)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, timeout=60, env=environment, capture_output=True
    )
    assert (done.returncode, done.stdout.decode().split()) == (0, cases), done.stderr.decode()


@pytest.mark.parametrize("reason", ["cheap", "short", "processor", "limit"])
def test_without_helpers(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    """A search that costs little or is short, one processor, and a limit of processes: all is done here."""
    forked: list[bool] = []

    def refuse() -> int:
        forked.append(True)
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", refuse)
    monkeypatch.setattr(sharing, "PART_BYTES", 1)
    monkeypatch.setattr(sharing, "ALONE_S", 1e9 if reason == "short" else 0.0)
    monkeypatch.setattr(sharing, "COSTLY_NS", 1e12 if reason == "cheap" else -1.0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0} if reason == "processor" else {0, 1})
    descriptors = len(os.listdir("/proc/self/fd"))
    assert encoded(shared(batches(), work)) == ALONE
    assert bool(forked) is (reason == "limit")
    assert len(os.listdir("/proc/self/fd")) == descriptors
