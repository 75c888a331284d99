"""
The hub that `mpsr spawn --hub` starts: a separate process, restarted if it dies, stopped last.

Its log goes to our standard error. If this process is killed, the hub gets SIGTERM, receives what its producers have
sent, and ends.

Always true: when `start` returns, the hub that listens is this one (if the kernel reports its process id).

Not here: the hub's configuration (hub.cli.spawn), starting and restarting of children (producers.spawn).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from hub.errors import MpsrError
from hub.paths import socket_address
from hub.peer import peer_of
from producers.blocking import Producer
from producers.errors import NotTrusted
from producers.spawn.console import Console
from producers.spawn.delivery import Delivery
from producers.spawn.lifecycle import AnyExit, Policy, Restart
from producers.spawn.supervisor import Spec, Supervisor

PATIENCE_S = 30.0
"""Longest time until the hub listens: it recovers its journal first."""
STOP_TIMEOUT_S = 30.0
NAME = "hub"


class HubNotStarted(MpsrError):
    """The hub of --hub ended or does not listen; *reason* is the cause."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the hub did not start: {self.reason}"


class OwnHub:
    """Runs *command*, a hub that listens at *path*."""

    def __init__(self, command: Sequence[str], path: str, console: Console | None) -> None:
        self._path = path
        spec = Spec(NAME, tuple(command), os.environ, is_captured=False, death_signal=signal.SIGTERM)
        policy = Policy(restart=Restart.ALWAYS, any_exit=AnyExit.IGNORE, stop_timeout_s=STOP_TIMEOUT_S)
        self._supervisor = Supervisor([spec], policy, Delivery(None, console), on_event=self._note)
        self._running: asyncio.Task[int] | None = None
        self._pid = 0
        self._is_starting = True
        self._ended = asyncio.Event()

    async def start(self, producer: Producer) -> None:
        """Return when the hub listens and *producer* is connected to it. Raises HubNotStarted."""
        if self._listener() is not None:
            raise HubNotStarted(f"another one listens at {self._path} (leave out --hub to use it)")
        loop = asyncio.get_running_loop()
        self._running = loop.create_task(self._supervisor.run(), name="mpsr-hub")
        ended = loop.create_task(self._ended.wait())
        connected = loop.create_task(asyncio.to_thread(producer.connect, PATIENCE_S))
        try:
            await asyncio.wait((ended, connected), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done() and connected.exception() is None and not self._is_listening():
                await asyncio.wait((ended,), timeout=PATIENCE_S)  # another hub listens there: ours ends and logs that
            if connected.done() and isinstance(refusal := connected.exception(), NotTrusted):
                raise HubNotStarted(str(refusal))
            if ended.done() or not self._is_listening():
                raise HubNotStarted("it ended (see above)" if ended.done() else f"no hub listens at {self._path}")
            self._is_starting = False
        finally:
            ended.cancel()
            connected.add_done_callback(lambda done: done.cancelled() or done.exception())  # it was reported

    def give_up(self) -> None:
        """Stop waiting for the hub to start."""
        self._ended.set()

    async def stop(self) -> None:
        """Stop the hub, and wait until it has ended."""
        if self._running is not None:
            self._supervisor.stop()
            await self._running

    def _note(self, event: str, fields: Mapping[str, Any]) -> None:
        if event == "process.started":
            self._pid = fields["pid"]
        elif event in ("process.exited", "process.not_started"):
            self._ended.set()
            if self._is_starting:
                self._supervisor.stop()  # a hub that does not start once is not started again

    def _is_listening(self) -> bool:
        return self._listener() in (self._pid, 0)

    def _listener(self) -> int | None:
        """Return the process that listens, 0 if the kernel does not report it; None if there is none."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            try:
                sock.connect(socket_address(self._path))
            except OSError:
                return None
            return peer_of(sock).pid
