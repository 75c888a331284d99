"""
The hub that `mpsr spawn --hub` starts: a process of its own, started again if it dies, stopped last.

Its log goes to our standard error. If we are killed it is asked to stop, and takes what its producers have sent.

Always true: when `start` returns the hub that listens is this one.
Not here: what it is told (hub.cli.spawn), how children are started and restarted (producers.spawn).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from hub.errors import MpsrError
from hub.peer import peer_of
from producers.blocking import Producer
from producers.errors import NotTrusted
from producers.spawn.console import Console
from producers.spawn.delivery import Delivery
from producers.spawn.lifecycle import AnyExit, Policy, Restart
from producers.spawn.supervisor import Spec, Supervisor

PATIENCE_S = 30.0
"""So long it may take until it listens: it looks through its journal first."""
STOP_TIMEOUT_S = 30.0
NAME = "hub"


class HubNotStarted(MpsrError):
    """The hub of --hub ended, or does not listen; *reason* says it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the hub did not start: {self.reason}"


class OwnHub:
    """Run *command*, which is to listen at *path*."""

    def __init__(self, command: Sequence[str], path: str, console: Console | None) -> None:
        self._path = path
        spec = Spec(NAME, tuple(command), os.environ, is_captured=False, death_signal=signal.SIGTERM)
        policy = Policy(restart=Restart.ALWAYS, any_exit=AnyExit.IGNORE, stop_timeout_s=STOP_TIMEOUT_S)
        self._supervisor = Supervisor([spec], policy, Delivery(None, console), on_event=self._note)
        self._running: asyncio.Task[int] | None = None
        self._pid = 0
        self._ended = asyncio.Event()

    async def start(self, producer: Producer) -> None:
        """Return when it listens, and *producer* is connected to it. Raises HubNotStarted."""
        loop = asyncio.get_running_loop()
        self._running = loop.create_task(self._supervisor.run(), name="mpsr-hub")
        ended = loop.create_task(self._ended.wait())
        connected = loop.create_task(asyncio.to_thread(producer.connect, PATIENCE_S))
        try:
            await asyncio.wait((ended, connected), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done() and connected.exception() is None and not self._is_listening():
                await asyncio.wait((ended,), timeout=PATIENCE_S)  # another hub is there: ours will say so
            if connected.done() and isinstance(refusal := connected.exception(), NotTrusted):
                raise HubNotStarted(str(refusal))
            if ended.done() or not self._is_listening():
                raise HubNotStarted("it ended (see above)" if ended.done() else f"nobody listens at {self._path}")
        finally:
            ended.cancel()
            connected.add_done_callback(lambda done: done.cancelled() or done.exception())  # it has been said

    def give_up(self) -> None:
        """Wait no longer for its start."""
        self._ended.set()

    async def stop(self) -> None:
        """Stop it, and wait for its end."""
        if self._running is not None:
            self._supervisor.stop()
            await self._running

    def _note(self, event: str, fields: Mapping[str, Any]) -> None:
        if event == "process.started":
            self._pid = fields["pid"]
        elif event in ("process.exited", "process.not_started"):
            self._ended.set()

    def _is_listening(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            try:
                sock.connect(self._path)
            except OSError:
                return False
            return peer_of(sock).pid in (self._pid, 0)
