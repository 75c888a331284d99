"""
The public API as a user would use it: checked strictly by `make lint`, never run.

What is asserted here is what a type checker tells the user; a change of it is a change of the API.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, assert_type

from hub import Batch, CloseConnection, Hub, Journal, Message, MpsrError, Peer, Request
from producers import (
    AsyncProducer,
    BacklogFull,
    BadRecord,
    CommandFailed,
    NotAcknowledged,
    NotConnected,
    Producer,
    ProducerClosed,
    ProducerError,
    call,
)


async def receive_messages() -> None:
    async with Hub("/tmp/mpsr.sock", mode=0o660, group="adm", connections_max=100) as hub:
        assert_type(hub.path, str)
        async for message in hub:
            assert_type(message, Message)
            assert_type(message.tag, str)
            assert_type(message.time, int)
            assert_type(message.record, dict[Any, Any])
            assert_type(message.sequence, int)
            assert_type(message.received, int)
            assert_type(message.peer, Peer)
            assert_type(message.peer.pid, int)
            assert_type(message.peer.comm, str)
            assert_type(message.peer.verified, bool)


async def receive_batches() -> None:
    async with Hub() as hub:
        async for batch in hub.batches():
            assert_type(batch, Batch)
            assert_type(batch.count, int)
            for message in batch.messages():
                assert_type(message, Message)
            batch.acknowledge()
        await hub.stop(timeout_s=1)


def ping(request: Request, peer: Peer) -> str:
    assert_type(request.method, str)
    if peer.uid != 0:
        raise CloseConnection("not you")
    return "pong"


async def slow(request: Request, peer: Peer) -> dict[str, int]:
    return {"pid": peer.pid}


async def answer_commands() -> None:
    async with Hub("/tmp/mpsr.sock", commands={"ping": ping, "slow": slow}):
        pass


async def keep(batch: Batch) -> None:
    journal = await Journal.open("/tmp/journal", keep_bytes=1 << 30, durability="relaxed")
    commit = await journal.append([batch])
    assert_type(commit.last_sequence, int)
    await journal.wait_beyond(commit.last_sequence - 1)
    await journal.close()


def send() -> None:
    with Producer("/tmp/mpsr.sock", tag="app.web", backlog_bytes_max=1 << 20, linger_s=0.01) as producer:
        producer.send({"event": "started", "at": datetime.now(UTC), "tags": ["a", None, 1.5, b"bytes"]})
        producer.send({}, tag="app.other", time_ns=1, timeout=0.5)
        producer.connect(timeout=1)
        producer.flush(timeout=5)
        producer.close(timeout=None)


async def send_asynchronously() -> None:
    async with AsyncProducer(tag="app.jobs") as producer:
        await producer.connect()
        await producer.send({"event": "started"}, tag="app.other", timeout=1)
        await producer.flush()


def handle_errors() -> None:
    try:
        answer: dict[str, int] = call("stats", path="/tmp/mpsr.sock", timeout=1)
        print(answer["messages"])
    except NotConnected as error:
        assert_type(error.path, str)
    except CommandFailed as error:
        assert_type(error.code, int)
    except NotAcknowledged as error:
        assert_type(error.count, int)
    except BacklogFull as error:
        assert_type(error.held_bytes, int)
    except BadRecord as error:
        assert_type(error.path, str)
    except (ProducerClosed, ProducerError, MpsrError) as error:
        print(error)
