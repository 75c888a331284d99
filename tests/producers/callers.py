"""
Both clients behind one set of calls, so that one test holds for `Client` and for `AsyncClient`, and a hub whose answers
the test writes line by line.

Every call can be begun beside the test, which is then the hub. At the end no task, no warning and no unhandled error of
a loop may be left.
"""

from __future__ import annotations

import asyncio
import json
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from producers import AsyncClient, AsyncStream, Client, Stream
from tests.producers.fakehub import FakeHub
from tests.producers.loops import in_thread, on_each_loop
from tests.support import PATIENCE_S

END = object()
"""What `Reader.next` returns at the end of a stream."""


class Talk:
    """The hub's side of one connection."""

    def __init__(self, fake: FakeHub) -> None:
        self.sock: socket.socket = fake.accept().sock
        self._data = b""

    def request(self) -> dict[str, Any]:
        """Read one request."""
        while b"\n" not in self._data:
            data = self.sock.recv(1 << 16)
            assert data, "the client hung up"
            self._data += data
        line, _, self._data = self._data.partition(b"\n")
        request: dict[str, Any] = json.loads(line)
        return request

    def send(self, **members: Any) -> None:
        """Send one object of JSON-RPC."""
        self.sock.sendall(json.dumps({"jsonrpc": "2.0", **members}).encode() + b"\n")

    def reply(self, request: dict[str, Any], result: object) -> None:
        self.send(id=request["id"], result=result)

    def fail(self, request: dict[str, Any], code: int, message: str = "no") -> None:
        self.send(id=request["id"], error={"code": code, "message": message, "data": [1]})

    def value(self, request: dict[str, Any], *values: object) -> None:
        for value in values:
            self.send(method="stream", params={"id": request["id"], "value": value})

    def begin(self) -> dict[str, Any]:
        """Read the request for a stream, and answer the ping after it."""
        request, ping = self.request(), self.request()
        assert ping["method"] == "ping"
        self.reply(ping, "pong")
        return request

    def is_closed(self) -> bool:
        """Read to the end of what the client has sent; return True when it hangs up."""
        try:
            while self.sock.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass
        return True


class Reader(ABC):
    """A stream."""

    stream: Stream | AsyncStream

    @abstractmethod
    def begin_next(self) -> Future[Any]:
        """Wait for the next value, or `END`, beside this thread."""

    @abstractmethod
    def close(self) -> None: ...

    def next(self) -> Any:
        return self.begin_next().result(PATIENCE_S)

    def some(self, count: int) -> list[Any]:
        return [self.next() for _ in range(count)]


class Caller(ABC):
    """One client."""

    client: Client | AsyncClient

    @abstractmethod
    def begin(self, method: str, params: Any = None, **options: Any) -> Future[Any]:
        """Call *method* beside this thread."""

    @abstractmethod
    def begin_stream(self, method: str, *args: Any, **options: Any) -> Future[Reader]:
        """Call the client's *method* for a stream beside this thread, and wait until it has begun."""

    @abstractmethod
    def close(self) -> None: ...

    def call(self, method: str, params: Any = None, **options: Any) -> Any:
        return self.begin(method, params, **options).result(2 * PATIENCE_S)

    def stream(self, *args: Any, **options: Any) -> Reader:
        return self.begin_stream("stream", *args, **options).result(PATIENCE_S)

    def subscribe(self, *args: Any, **options: Any) -> Reader:
        return self.begin_stream("subscribe", *args, **options).result(PATIENCE_S)


def beside(function: Callable[..., Any], *args: Any, **options: Any) -> Future[Any]:
    """Call *function* in a thread."""
    return in_thread(function, *args, **options)[0]


class _Blocking(Caller):
    client: Client

    def __init__(self, path: str) -> None:
        self.client = Client(path)

    def begin(self, method: str, params: Any = None, **options: Any) -> Future[Any]:
        return beside(self.client.call, method, params, **options)

    def begin_stream(self, method: str, *args: Any, **options: Any) -> Future[Reader]:
        return beside(lambda: _BlockingReader(getattr(self.client, method)(*args, **options)))

    def close(self) -> None:
        self.client.close()


class _BlockingReader(Reader):
    def __init__(self, stream: Stream) -> None:
        self.stream: Stream = stream

    def begin_next(self) -> Future[Any]:
        return beside(lambda: next(self.stream, END))

    def close(self) -> None:
        self.stream.close()


class _Asynchronous(Caller):
    client: AsyncClient

    def __init__(self, loop: asyncio.AbstractEventLoop, path: str) -> None:
        self._loop = loop

        async def make() -> AsyncClient:
            return AsyncClient(path)

        self.client = self._run(make()).result(PATIENCE_S)

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def begin(self, method: str, params: Any = None, **options: Any) -> Future[Any]:
        return self._run(self.client.call(method, params, **options))

    def begin_stream(self, method: str, *args: Any, **options: Any) -> Future[Reader]:
        async def begin() -> Reader:
            stream = await getattr(self.client, method)(*args, **options).__aenter__()
            return _AsynchronousReader(self._run, stream)

        return self._run(begin())

    def close(self) -> None:
        self._run(self.client.close()).result(PATIENCE_S)


class _AsynchronousReader(Reader):
    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Future[Any]], stream: AsyncStream) -> None:
        self._run = run
        self.stream: AsyncStream = stream

    def begin_next(self) -> Future[Any]:
        async def following() -> Any:
            return await anext(self.stream, END)

        return self._run(following())

    def close(self) -> None:
        self._run(self.stream.close()).result(PATIENCE_S)


MakeCaller = Callable[[str], Caller]
CALLERS: dict[str, Callable[[], AbstractContextManager[MakeCaller]]] = {
    "threads": lambda: nullcontext(_Blocking),
    **on_each_loop(lambda loop: partial(_Asynchronous, loop)),
}
"""How to make a caller: for each kind, a context that gives the function."""
