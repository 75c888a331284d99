"""
A child process that answers requests.

Each request is a line to its standard input, the answer is the next line of its standard output.

    async with Child("python", "worker.py") as child:
        answer = await child.request("line")

Always true:
- answers are matched to requests in the order of the requests; if a request is cancelled, its answer is skipped;
- the child's standard error is never an answer: it goes to our standard error, or line by line to *on_stderr*;
- when the child dies, every waiting request and every later one raises `ChildDied`, with the exit code and the last
  lines of its standard error;
- neither the child nor any process of its group outlives the block; on Linux the child dies with this process.

Not here: restarting, output as messages (producers.spawn).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import overload

from producers.errors import ChildDied
from producers.spawn import processes

LINE_BYTES_MAX = 64 << 20
STOP_TIMEOUT_S = 5.0
_LAST_LINES = 20
_REST_S = 0.5
"""
How long after the child's exit its pipes are still read: for its last answer, and in case other processes hold them
open.
"""


class Child:
    """
    Run *command* for the duration of the block.

    At the end of the block its standard input is closed. It gets SIGTERM after *stop_timeout* seconds, and SIGKILL
    after as many more. *on_stderr* is called with each line of its standard error, without the line feed.
    """

    def __init__(
        self,
        *command: str,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        on_stderr: Callable[[bytes], object] | None = None,
        line_bytes_max: int = LINE_BYTES_MAX,
        stop_timeout: float = STOP_TIMEOUT_S,
    ) -> None:
        if not command:
            raise ValueError("give the command to run: Child('python', 'worker.py')")
        self._command = command
        self._env = os.environ if env is None else env
        self._cwd = cwd
        self._on_stderr = on_stderr
        self._line_bytes_max = line_bytes_max
        self._stop_timeout = stop_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: deque[asyncio.Future[bytes]] = deque()
        self._last_lines: deque[bytes] = deque(maxlen=_LAST_LINES)
        self._death: ChildDied | None = None
        self._transports: list[asyncio.BaseTransport] = []

    @property
    def pid(self) -> int:
        """The process id. Raises RuntimeError before the block."""
        return self._started().pid

    @property
    def returncode(self) -> int | None:
        """As in `subprocess.Popen`: None while it runs, negative for a signal."""
        return None if self._process is None else self._process.returncode

    async def __aenter__(self) -> Child:
        if self._process is not None:
            raise RuntimeError("a Child can be run only once")
        loop = asyncio.get_running_loop()
        pipe = subprocess.PIPE
        process = processes.start(self._command, env=self._env, cwd=self._cwd, stdin=pipe, stdout=pipe, stderr=pipe)
        self._process = process
        self._exited = asyncio.Event()
        self._asked = asyncio.Event()
        self._forget = processes.on_exit(process, self._exited.set)
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            self._stdin = await self._writer(process.stdin)
            self._stdout = await self._reader(process.stdout)
            self._stderr = await self._reader(process.stderr)
        except BaseException:
            self._kill()
            raise
        self._reading = loop.create_task(self._answer(), name="mpsr-child-stdout")
        self._listening = loop.create_task(self._listen(), name="mpsr-child-stderr")
        self._watching = loop.create_task(self._watch(), name="mpsr-child-exit")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ending = asyncio.create_task(self._end())
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            processes.signal_group(self.pid, signal.SIGKILL)
            await ending
            raise

    @overload
    async def request(self, line: str) -> str: ...
    @overload
    async def request(self, line: bytes) -> bytes: ...
    async def request(self, line: str | bytes) -> str | bytes:
        """
        Write *line* and return the next line of standard output, both without the line end.

        Raises ChildDied, and ValueError if *line* contains a line feed. Text is UTF-8; invalid bytes are kept
        (surrogateescape).
        """
        self._started()
        data = line.encode("utf-8", "surrogateescape") if isinstance(line, str) else line
        if b"\n" in data:
            raise ValueError("a request is one line; this one has a line feed inside")
        if self._death is not None:
            raise self._death
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._stdin.write(data + b"\n")  # no await before the next line: answers are in the order of the calls
        self._requests.append(answer)
        self._asked.set()
        with contextlib.suppress(OSError):  # the death is reported through the answer
            await self._stdin.drain()
        reply = await answer
        return reply.decode("utf-8", "surrogateescape") if isinstance(line, str) else reply

    async def _reader(self, pipe: object) -> asyncio.StreamReader:
        reader = asyncio.StreamReader(limit=self._line_bytes_max)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
        self._transports.append(transport)
        return reader

    async def _writer(self, pipe: object) -> asyncio.StreamWriter:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, pipe)
        self._transports.append(transport)
        return asyncio.StreamWriter(transport, protocol, None, loop)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("a Child runs only inside its block: async with Child(...) as child")
        return self._process

    # Tasks that run while the child lives.

    async def _answer(self) -> None:
        """Give each line to the oldest request. No line is read while no request waits."""
        while True:
            while not self._requests:
                self._asked.clear()
                await self._asked.wait()
            try:
                line = await self._stdout.readuntil(b"\n")
            except asyncio.IncompleteReadError as end:  # a last line may lack its line feed
                line = bytes(end.partial)
                if not line:
                    return
            except (asyncio.LimitOverrunError, ValueError):
                self._die(None, f"a line of more than {self._line_bytes_max} bytes")
                return
            answer = self._requests.popleft()
            if not answer.done():
                answer.set_result(line.removesuffix(b"\n").removesuffix(b"\r"))

    async def _listen(self) -> None:
        """Forward its standard error."""
        while True:
            try:
                line = await self._stderr.readuntil(b"\n")
            except asyncio.IncompleteReadError as end:
                line = bytes(end.partial)
            except asyncio.LimitOverrunError as long:
                line = await self._stderr.read(long.consumed or 1)
            if not line:
                return
            self._last_lines.append(line[:4096].rstrip(b"\r\n"))
            if self._on_stderr is not None:
                self._on_stderr(line.removesuffix(b"\n"))
            elif sys.stderr is not None:
                sys.stderr.write(line.decode("utf-8", "backslashreplace"))
                sys.stderr.flush()

    async def _watch(self) -> None:
        """Wait until the process exits or closes its standard output, then fail all waiting requests."""
        exited = asyncio.create_task(self._exited.wait())
        try:
            await asyncio.wait((exited, self._reading), return_when=asyncio.FIRST_COMPLETED)
            # Read its last output, but not the endless output that other processes of its group may write.
            await asyncio.wait((exited,), timeout=_REST_S)
            await asyncio.wait((self._listening, *self._unfinished()), timeout=_REST_S)
        finally:
            exited.cancel()
        self._die(self._started().returncode, "")

    def _unfinished(self) -> tuple[asyncio.Task[None], ...]:
        return (self._reading,) if self._requests else ()

    def _die(self, code: int | None, reason: str) -> None:
        last_lines = b"\n".join(self._last_lines).decode("utf-8", "backslashreplace")
        self._death = self._death or ChildDied(self._command[0], code, reason or last_lines)
        while self._requests:
            answer = self._requests.popleft()
            if not answer.done():
                answer.set_exception(self._death)

    # The end.

    async def _end(self) -> None:
        """Let the process end by itself; signal it if it does not."""
        process = self._started()
        try:
            self._stdin.close()
            for number in (signal.SIGTERM, signal.SIGKILL):
                if await self._has_exited(self._stop_timeout):
                    break
                processes.signal_group(process.pid, number)
            else:
                await self._exited.wait()
            await asyncio.wait((self._watching,), timeout=2 * _REST_S)
        finally:
            tasks = (self._reading, self._listening, self._watching)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._kill()
            self._die(process.returncode, "")
            await asyncio.sleep(0)  # transports close in the next iteration of the loop

    async def _has_exited(self, timeout: float) -> bool:
        try:
            async with asyncio.timeout(timeout):
                await self._exited.wait()
        except TimeoutError:
            return False
        return True

    def _kill(self) -> None:
        """Kill the group and close the pipes."""
        process = self._started()
        self._forget()
        processes.signal_group(process.pid, signal.SIGKILL)
        process.wait()
        for transport in self._transports:
            if isinstance(transport, asyncio.WriteTransport):
                with contextlib.suppress(AttributeError):  # asyncio raises it if the transport is closed already
                    transport.abort()
            else:
                transport.close()
        for pipe in (process.stdin, process.stdout, process.stderr)[len(self._transports) :]:
            if pipe is not None:
                pipe.close()
