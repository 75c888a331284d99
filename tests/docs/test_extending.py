"""docs/extending.md: the source that it shows keeps the contract that it describes."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from hub.access import Access, Rule, Rules
from hub.budget import Budget
from hub.endpoint import Endpoint
from hub.holding import Holding
from hub.journal.journal import Journal
from hub.message import LOSS_TAG, Message
from hub.receiver import Receiver
from hub.service.parts import Part, run_parts
from hub.socketfile import SocketFile
from tests.docs.pages import ROOT, blocks_of
from tests.hub.clients import Run, both_loops, until

SOURCE = next(block.text for block in blocks_of(ROOT / "docs/extending.md") if block.language == "python")


class Hub:
    """A receiver, the source of the page with a pipe, and a socket: the rows in the order of the page."""

    def __init__(self, folder: Path, *, access: Access | None = None) -> None:
        self._folder = folder
        self._access = access
        self.names: dict[str, Any] = {}
        exec(compile(SOURCE, "extending.md", "exec"), self.names)  # the code of the page
        self.theirs, self.fd = os.pipe()[::-1]
        os.set_blocking(self.fd, False)
        self.got: list[Message] = []
        self.endpoint: Endpoint
        self.source: Any

    async def run(self, serve: Callable[[], Awaitable[None]], *, timeout: float = 30.0) -> None:
        """Run until *serve* returns, stop, and read the journal."""
        journal = await Journal.open(str(self._folder / "journal"))
        try:
            self.endpoint = endpoint = Endpoint(SocketFile.bind(str(self._folder / "s")), access=self._access)
            receiver = Receiver(endpoint.inbox, journal, endpoint.metrics)
            self.source = source = self.names["Lines"](endpoint, self.fd, "pump", b"pumped")

            async def stop(timeout: float) -> None:
                await endpoint.stop(timeout=timeout)

            parts = [
                Part("receiver", receiver.run, stop=receiver.stop, grace_s=1, is_vital=True),
                Part("lines", source.run, stop=source.stop, grace_s=1),
                Part("socket", lambda: endpoint.run({}), stop=stop),
            ]
            await run_parts(parts, serve, stop_timeout=lambda: timeout)
            assert endpoint.inbox.budget.loose_bytes == 0, "everything is given back"
            endpoint.close()
            reader = journal.read()
            batches = await asyncio.to_thread(lambda: list(reader.read()))
            reader.close()
            self.got = [message for batch in batches for message in batch.messages()]  # type: ignore[union-attr]
        finally:
            await journal.close()
            os.close(self.fd)

    def ended(self) -> bool:
        return bool(self.source._ended.is_set())


@both_loops
def test_lines_arrive(run: Run, tmp_path: Path) -> None:
    """
    Lines arrive in order until the end of the stream, as the owner's of the pipe, under the tag of the source unless
    they name one; a request is a loss, also without a newline; the hub goes on after the end.
    """
    hub = Hub(tmp_path)

    async def serve() -> None:
        os.write(hub.theirs, b'one\n{"tag": "app", "n": 2}\n[]\n{"jsonrpc": "2.0", "id": 1, "method": "ping"}')
        os.close(hub.theirs)
        await until(hub.ended)

    run(hub.run(serve))
    assert [message.tag for message in hub.got] == ["pumped", "app", "pumped", LOSS_TAG.decode()]
    assert [message.record for message in hub.got[:3]] == [{"message": "one"}, {"n": 2}, {"message": "[]"}]
    (peer,) = {message.peer for message in hub.got}
    assert (peer.pid, peer.uid, peer.comm, peer.verified) == (0, os.geteuid(), "pump", False)


@both_loops
def test_it_keeps_to_the_budget(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for a slow receiver, counts each byte that it reads, and ends only when everything is acknowledged."""
    hub = Hub(tmp_path)
    lines = [b"%d %s\n" % (number, b"x" * 1000) for number in range(1000)]
    counted = {"arrived": 0, "decoded": 0}
    got: list[bytes] = []
    batches = [0]
    for name in counted:
        original = getattr(Budget, name)

        def count(self: Budget, holding: Holding, size: int, name: str = name, original: Any = original) -> None:
            counted[name] += size
            original(self, holding, size)

        monkeypatch.setattr(Budget, name, count)

    def write() -> None:
        with open(hub.theirs, "wb") as pipe:
            pipe.writelines(lines)

    async def main() -> None:
        endpoint = Endpoint(SocketFile.bind(str(tmp_path / "s")), inbox_bytes_max=64 << 10)
        budget = endpoint.inbox.budget
        running = asyncio.create_task(hub.names["Lines"](endpoint, hub.fd, "pump", b"pumped").run())
        writing = asyncio.create_task(asyncio.to_thread(write))
        try:
            await receive(endpoint, running)
            await running
        finally:
            running.cancel()
            await asyncio.wait((running,))
            os.close(hub.fd)  # if anything failed, the writer ends too
            await asyncio.wait((writing,))
            await endpoint.stop(timeout=0)
            endpoint.close()
        assert got == lines
        assert counted == {"arrived": sum(map(len, lines)), "decoded": batches[0]}
        assert (budget.queued_bytes, budget.loose_bytes) == (0, 0)

    async def receive(endpoint: Endpoint, running: asyncio.Task[None]) -> None:
        budget = endpoint.inbox.budget
        while len(got) < len(lines):
            for _ in range(50):  # gives it the time to read too much
                await asyncio.sleep(0)
            assert budget.queued_bytes + budget.loose_bytes < 128 << 10
            taken = await endpoint.inbox.take(1)
            for batch in taken:
                got.extend(message.record["message"].encode() + b"\n" for message in batch.messages())
                batches[0] += 1
                assert not running.done()
                batch.acknowledge()
            taken.release()

    run(main())


@both_loops
def test_a_stop_stores_what_was_read(run: Run, tmp_path: Path) -> None:
    """At a stop the line that has no end yet is stored, and the stop does not wait for the writer."""
    hub = Hub(tmp_path)

    async def serve() -> None:
        os.write(hub.theirs, b"one\nhalf")
        await until(lambda: hub.endpoint.inbox.budget.loose_bytes == len("half"))

    run(hub.run(serve))
    os.close(hub.theirs)
    assert len(hub.got) == 2


@both_loops
def test_a_fault_does_not_stop_the_hub(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A read that fails is reported once and tried again."""
    hub, faults, read = Hub(tmp_path), [errno.EIO, errno.EIO, errno.EIO], os.read
    hub.names["RETRY_S"] = 0.001

    def fail(fd: int, size: int) -> bytes:
        if fd == hub.fd and faults:
            raise OSError(faults.pop(), "Input/output error")
        return read(fd, size)

    async def serve() -> None:
        monkeypatch.setattr(os, "read", fail)
        os.write(hub.theirs, b"one\n")
        os.close(hub.theirs)
        await until(hub.ended)

    run(hub.run(serve))
    assert (len(hub.got), faults) == (1, [])
    assert capsys.readouterr().err.count("lines.unreadable") == 1


@both_loops
def test_rules_apply_to_the_owner(run: Run, tmp_path: Path) -> None:
    """A rule by user refuses the owner of the pipe: the source ends after the first step, and the refusal is a loss."""
    rule = Rule.parse(f"uid:{os.geteuid()}")
    hub = Hub(tmp_path, access=Access({"send": Rules(deny=(rule,))}))

    async def serve() -> None:
        os.write(hub.theirs, b"one\n")
        await until(hub.ended)

    run(hub.run(serve))
    os.close(hub.theirs)
    assert [message.tag for message in hub.got] == [LOSS_TAG.decode()]
    assert hub.endpoint.metrics.refused == 1
