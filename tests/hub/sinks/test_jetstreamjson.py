"""hub.sinks.jetstreamjson: messages as JSON in a stream, for any consumer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.message import Message, Peer
from hub.natsplace import ServerUrl
from hub.query.rendering import render_json
from hub.sinks.jetstreamjson import TAG_CHARS_MAX, JetstreamJsonSink, subject_of
from hub.sinks.kinds import Jetstream
from hub.sinks.sink import SinkFault
from hub.sinks.values import SinkName
from tests.hub.sinks.delivering import Alone
from tests.natsserver import NatsServer
from tests.support import eventually


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server that runs during the test."""
    with NatsServer(tmp_path / "nats") as running:
        yield running


def message(number: int, tag: str = "app.web", text: str = "x") -> Message:
    return Message(tag, 5, {"n": number, "message": text}, number, 6, Peer(1, 2, 3, "c"))


def sink_of(host: Alone, server: NatsServer, **more: Any) -> JetstreamJsonSink:
    """Return an open sink, in the place of the one before."""
    if host.sink is not None:
        host.sink.close()
    table = Jetstream(name=SinkName("up"), servers=(ServerUrl(server.url),), format="json", **more)
    sink = host.sink = JetstreamJsonSink(table, host)
    sink.open(0, b"")
    return sink


def in_stream(server: NatsServer) -> list[tuple[str, Any]]:
    """Return subject and payload of each message."""

    async def read() -> list[tuple[str, Any]]:
        async with server.client() as client:
            manager = client.jetstream()
            count = (await manager.stream_info("LOGS")).state.messages
            subscription = await manager.subscribe(">", stream="LOGS", ordered_consumer=True)
            found = [await subscription.next_msg(timeout=10) for _ in range(count)]
        return [(each.subject, json.loads(each.data)) for each in found]

    return asyncio.run(read())


def test_each_message_is_one(server: NatsServer) -> None:
    """Its subject is the stream and the tag, its payload the line of `mpsr logs --output json`."""
    sink = sink_of(Alone(), server)
    messages = [message(1), message(2, "a b"), message(3)]
    sink.deliver_groups([messages])
    assert sink.safe == 3
    subjects = "LOGS.app.web", "LOGS.a%20b", "LOGS.app.web"
    assert in_stream(server) == [
        (subject, json.loads(render_json(each))) for subject, each in zip(subjects, messages, strict=True)
    ]
    sink.idle(0)
    assert sink.settle() == b""


def test_what_comes_again_is_dropped_by_the_server(server: NatsServer) -> None:
    """Also within a batch with new messages; after a rewind it is meant to arrive again."""
    host = Alone()
    sink_of(host, server).deliver_groups([[message(number) for number in range(1, 5)]])
    sink = sink_of(host, server)
    sink.deliver_groups([[message(number) for number in range(3, 8)]])
    sink.deliver_groups([[message(8)]])
    assert [payload["sequence"] for _, payload in in_stream(server)] == [*range(1, 9)]
    host.rewound = 1
    sink_of(host, server).deliver_groups([[message(1), message(2)]])
    assert [payload["sequence"] for _, payload in in_stream(server)] == [*range(1, 9), 1, 2]


def test_another_hub_has_published_since(server: NatsServer) -> None:
    """What the stream has is dropped by the server, and the rest is published, in order and once."""
    host, other = Alone(), Alone()
    other.hub_id = bytes(16)
    sink_of(host, server).deliver_groups([[message(number) for number in range(1, 5)]])
    sink_of(other, server).deliver_groups([[message(77)]])
    sink_of(host, server).deliver_groups([[message(number) for number in range(3, 9)]])
    assert [payload["sequence"] for _, payload in in_stream(server)] == [1, 2, 3, 4, 77, 5, 6, 7, 8]


def test_a_journal_of_which_a_backup_was_restored(server: NatsServer) -> None:
    """Its new messages have known sequences, and are left out only while the server remembers these."""

    async def make() -> None:
        async with server.client() as client:
            await client.jetstream().add_stream(name="LOGS", subjects=["LOGS.>"], duplicate_window=0.1)

    asyncio.run(make())
    host = Alone()
    sink_of(host, server).deliver_groups([[message(1), message(2), message(3)]])
    sink = sink_of(host, server)
    later = msgspec.structs.replace(message(2, text="after the backup"), received=7)

    def is_there() -> bool:
        sink.deliver_groups([[message(1), later]])
        return len(in_stream(server)) >= 4

    eventually(is_there)
    found = [payload for _, payload in in_stream(server)]
    assert [payload["sequence"] for payload in found] == [1, 2, 3, 2], "what the sink knows is not published again"
    assert found[3]["record"]["message"] == "after the backup"


def test_a_message_that_does_not_fit(server: NatsServer) -> None:
    """Is a dead letter; the others are published."""
    host = Alone()
    sink = sink_of(host, server, subject="eu.logs")
    sink.deliver_groups([[message(1, text="x" * (1 << 20))]])
    sink.deliver_groups([[message(2), message(3, text="x" * (1 << 20))]])
    assert host.refused == [(1, "too large for a message of NATS"), (3, "too large for a message of NATS")]
    assert [(subject, payload["sequence"]) for subject, payload in in_stream(server)] == [("eu.logs.app.web", 2)]


def idle_until_fault(sink: JetstreamJsonSink) -> None:
    while True:
        sink.idle(0)


def test_a_server_that_is_gone(server: NatsServer) -> None:
    """Is a fault."""
    sink = sink_of(Alone(), server)
    server.kill()
    with pytest.raises(SinkFault):
        sink.deliver_groups([[message(1), message(2)]])
    with pytest.raises(SinkFault):
        idle_until_fault(sink)


@pytest.mark.parametrize(
    ("tag", "subject"),
    [
        ("app.web-1_x", "p.app.web-1_x"),
        ("a b*>\r\n", "p.a%20b%2A%3E%0D%0A"),
        (".a..b.", "p.%2Ea%2E.b%2E"),
        ("", "p.%"),
        (".", "p.%2E"),
        ("é/x", "p.%C3%A9%2Fx"),
    ],
)
def test_subjects(tag: str, subject: str) -> None:
    """A tag that any user may choose is a subject without wildcards, spaces or empty tokens."""
    assert subject_of("p", tag) == subject


def test_long_subjects() -> None:
    """Are cut, and differ."""
    one, two = subject_of("p", "x" * 4000 + "1"), subject_of("p", "x" * 4000 + "2")
    assert one != two
    assert len(one) < TAG_CHARS_MAX + 30
