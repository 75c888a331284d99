"""
The public API as its users' programs use it: type-checked strictly with everything else, never run.

An ignored error here is part of the claim: mypy complains about the comment if the error is not there.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from types import MappingProxyType
from typing import Any, NoReturn, TypedDict, assert_type

import producers
from hub import (
    Access,
    BadCommand,
    Batch,
    CloseConnection,
    CommandError,
    Grant,
    Home,
    Hub,
    InvalidParams,
    Journal,
    JournalError,
    JournalLocked,
    JournalLost,
    JournalTooNew,
    JournalUnavailable,
    JournalUnusable,
    Message,
    MpsrError,
    NotASocket,
    Peer,
    ReceiverTaken,
    Request,
    Rule,
    Rules,
    SocketError,
    SocketInUse,
    SocketPathTooLong,
    UnknownGroup,
    UsageError,
)
from producers import (
    AnswerLost,
    AsyncClient,
    AsyncProducer,
    AsyncStream,
    BacklogFull,
    BadRecord,
    Child,
    ChildDied,
    Client,
    ClientClosed,
    CommandFailed,
    HubHandler,
    HubLoggerFactory,
    HubRenderer,
    NotAcknowledged,
    NotConnected,
    NotTrusted,
    Producer,
    ProducerClosed,
    ProducerError,
    Stream,
    call,
)

# A hub of one's own.


async def messages() -> None:
    async with Hub("/run/user/1000/mpsr.sock") as hub:
        assert_type(hub, Hub)
        async for message in hub:
            assert_type(message, Message)
            assert_type(message.tag, str)
            assert_type(message.time, int)
            assert_type(message.record, dict[Any, Any])
            assert_type(message.sequence, int)
            assert_type(message.received, int)
            assert_type(message.peer, Peer)
            assert_type(message.home, Home | None)
            print(message.tag, message.record["event"], message.peer.pid, message.peer.comm)


async def batches() -> None:
    async with Hub() as hub:
        assert_type(hub.path, str)
        assert_type(hub.connections, int)
        async for batch in hub.batches():
            assert_type(batch, Batch)
            assert_type(batch.count, int)
            for message in batch.messages():
                assert_type(message, Message)
            assert_type(batch.acknowledge(), None)
        assert_type(await hub.stop(), int)
        await hub.stop(timeout=1)


def ping(request: Request, peer: Peer) -> str:
    assert_type(request.method, str)
    assert_type(request.params, list[Any] | dict[str, Any] | None)
    return f"{peer.uid} {peer.gid} {peer.verified}"


async def slow(request: Request, peer: Peer) -> dict[str, int]:
    return {"pid": peer.pid}


def end(request: Request, peer: Peer) -> NoReturn:
    raise CloseConnection({"said": "bye"})


def fail(request: Request, peer: Peer) -> NoReturn:
    if request.params:
        raise InvalidParams("size: a number", param="size")
    raise CommandError("full", code=-32000, data=[1])


async def commands() -> None:
    table: dict[str, Callable[[Request, Peer], object | Awaitable[object]]] = {"ping": ping, "slow": slow, "end": end}
    async with Hub("hub.sock", mode=0o600, group="adm", commands=table, connections_max=10, inbox_bytes_max=1 << 20):
        pass
    Hub("hub.sock", commands={"ping": ping, "slow": slow, "any": lambda *_: None})
    Hub("hub.sock", commands=MappingProxyType({"ping": ping}))
    Hub("hub.sock", commands={"ping": lambda: "pong"})  # type: ignore[dict-item,misc]


async def numbers(request: Request, peer: Peer) -> AsyncIterator[int]:
    yield peer.pid


async def typed_commands(hub: Hub) -> None:
    @hub.command("resize")
    def resize(path: str, width: int = 1, *, peer: Peer) -> list[str]:
        return [path, peer.comm] * width

    @hub.command("count")
    async def count(first: int) -> AsyncIterator[int]:
        yield first

    assert_type(resize("a", 2, peer=Peer()), list[str])
    assert_type(count(1), AsyncIterator[int])
    hub.command(5)  # type: ignore[arg-type]
    hub.command("x")(5)  # type: ignore[type-var]
    hub.emit("resized", {"path": "a"})
    hub.emit("ended")
    Hub("hub.sock", commands={"numbers": numbers})
    try:
        hub.command("resize")(resize)
    except BadCommand as error:
        usage: UsageError = error
        assert_type((error.name, error.reason, usage.args), tuple[str, str, tuple[Any, ...]])


async def access() -> None:
    Access(grants=[Grant(Rules(), methods=("tail",), read=("app.*",))], methods={"tail": "messages"}).change({}, [])
    rules = Rules(allow=(Rule.parse("uid:1000"),), deny=(Rule.parse("comm:nginx"),))
    access = Access({"send": rules}, methods={"ping": "read"})
    access.change({"control": Rules()})
    Access({"sent": rules})  # type: ignore[dict-item]
    try:
        async with Hub(access=access) as hub:
            hub.batches()
    except SocketInUse as error:
        assert_type(error.pid, int | None)
        assert_type(error.path, str)
    except (ReceiverTaken, SocketPathTooLong, UnknownGroup) as unusable:
        usage: UsageError = unusable
        print(usage)
    except NotASocket as taken:
        impossible: SocketError = taken
        print(impossible.path, impossible.reason)


def frozen(message: Message) -> None:
    message.tag = "other"  # type: ignore[misc]


async def journal() -> None:
    journal = await Journal.open("/var/lib/mpsr/journal")
    assert_type(journal, Journal)
    assert_type(journal.last_sequence, int)
    await journal.wait_beyond(journal.last_sequence)
    try:
        await journal.close()
    except (JournalUnavailable, JournalLost) as error:
        failed: JournalError = error
        print(failed.path, failed.reason)


async def opened() -> Journal | None:
    try:
        return await Journal.open("journal", retain_bytes=1 << 30, retain_s=86_400.0, durability="relaxed")
    except JournalLocked as error:
        assert_type(error.pid, int | None)
    except JournalTooNew as error:
        assert_type(error.version, int)
    except JournalUnusable as error:
        assert_type(error.reason, str)
    return None


# Producers.


class Visit(TypedDict):
    url: str


def producer(visit: Visit) -> None:
    with Producer(tag="app.web") as producer:
        assert_type(producer, Producer)
        assert_type(producer.path, str)
        producer.connect(timeout=1)
        producer.send({"event": "started", "n": [1, None]})
        producer.send(visit)
        producer.send(MappingProxyType({"a": 1}), tag="other", time_ns=1, timeout=0.5)
        producer.send_entry(b"\x92\xc0\x80", tag="other")
        assert_type(producer.flush(timeout=5), None)
        producer.flush()
    Producer("/run/mpsr/hub.sock", backlog_bytes_max=1 << 20, chunk_bytes_max=1000, linger_s=0.1).close(timeout=None)
    Producer(when_full="drop_old", block_s=None, spool=False).stats()["dropped"]
    Producer(when_full="drop")  # type: ignore[arg-type]
    HubHandler(tag="shop", producer=producer).setLevel("INFO")
    producer.send("text")  # type: ignore[arg-type]
    producer.send([("a", 1)])  # type: ignore[arg-type]
    Producer("/run/mpsr/hub.sock", tags="app.web")  # type: ignore[call-arg]


async def asynchronous(visit: Visit) -> None:
    async with AsyncProducer(tag="app.jobs") as producer:
        assert_type(producer, AsyncProducer)
        await producer.connect(timeout=1)
        await producer.send({"event": "started"})
        await producer.send(visit, tag="other", time_ns=1, timeout=0.5)
        assert_type(await producer.flush(timeout=5), None)
    await AsyncProducer("hub.sock", backlog_bytes_max=1 << 20, chunk_bytes_max=1000, linger_s=0.1).close(timeout=None)
    producer.send({"event": "forgotten await"})  # type: ignore[unused-coroutine]


async def children() -> None:
    try:
        async with Child("python", "shout.py") as child:
            assert_type(await child.request("hello"), str)
    except ChildDied as death:
        assert_type(death.code, int | None)


def loggers() -> None:
    HubLoggerFactory("hub.sock", tag="shop")("name").info({"event": "sent"})
    _, options = HubRenderer()(None, "info", {"event": "sent"})
    assert_type(options, dict[str, Any])


def asking() -> None:
    assert_type(call("stats"), Any)
    call("m", [1, "x"], path="/run/mpsr/hub.sock", timeout=1)
    call("m", {"a": 1})


def asking_often() -> None:
    with Client("/run/mpsr/hub.sock") as client:
        assert_type(client.call("stats", timeout=1, is_idempotent=True), Any)
        with client.stream("tail", {"tag": "app.*"}) as stream:
            assert_type(stream, Stream)
            for value in stream:
                assert_type(value, Any)
        assert_type(client.subscribe("loss", "hub.*").wait(1.0), bool)
        assert_type(client.path, str)


async def asking_from_a_loop() -> None:
    async with AsyncClient() as client:
        assert_type(await client.call("stats", [1], timeout=1), Any)
        async with client.stream("count", [3], timeout=2) as stream:
            assert_type(stream, AsyncStream)
            assert_type([value async for value in stream], list[Any])
            assert_type(stream.result, Any)
        async for event in client.subscribe():
            assert_type(event, Any)


def errors(error: ProducerError, hub_error: MpsrError) -> None:
    try:
        raise error
    except BadRecord as bad:
        assert_type(bad.path, str)
        assert_type(bad.reason, str)
        a_value_error: ValueError = bad
        print(a_value_error)
    except BacklogFull as full:
        assert_type(full.held_bytes, int)
        assert_type(full.last_error, str)
    except NotAcknowledged as late:
        assert_type(late.count, int)
        assert_type(late.last_error, str)
        assert_type(late.dropped, int)
        a_timeout: TimeoutError = late
        print(a_timeout)
    except NotTrusted as strange:
        assert_type(strange.reason, str)
    except AnswerLost as lost:
        assert_type(lost.method, str)
    except NotConnected as away:
        assert_type(away.path, str)
        assert_type(away.reason, str)
        a_connection_error: ConnectionError = away
        print(a_connection_error)
    except CommandFailed as failed:
        assert_type(failed.code, int)
        assert_type(failed.message, str)
    except (ProducerClosed, ClientClosed):
        os.abort()
    raise hub_error


def no_other_names() -> None:
    print(producers.Consumer)  # type: ignore[attr-defined]


async def iterator(hub: Hub) -> AsyncIterator[Message]:
    async for message in hub:
        yield message
