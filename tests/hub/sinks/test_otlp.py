"""hub.sinks.otlp: what each reply means, against a strict double of a collector."""

from __future__ import annotations

import asyncio
import email.utils
import time
from pathlib import Path
from typing import Any

import pytest

from hub.delays import Delays
from hub.message import Message
from hub.paths import AbsolutePath
from hub.sinks import otlp as module
from hub.sinks.destination import Header, Url
from hub.sinks.httplink import RETRY_AFTER_S_MAX, Reply, retry_after_s
from hub.sinks.kinds import Otlp
from hub.sinks.otlp import OtlpSink, check_table
from hub.sinks.runner import Runner
from hub.sinks.sink import Halted, SinkFault
from hub.sinks.values import SinkName, Span
from tests.hub.clients import until
from tests.hub.sinks.collector import Collector, attributes_of
from tests.hub.sinks.delivering import Alone, hub_in, numbered


@pytest.fixture
def host() -> Alone:
    return Alone()


def table_of(url: str, *, timeout: float = 30, **more: Any) -> Otlp:
    return Otlp(name=SinkName("up"), url=Url(url), timeout=Span(timeout), begin="start", **more)


def sink_of(collector: Collector, host: Alone, **more: Any) -> OtlpSink:
    if host.sink is not None:
        host.sink.close()
    sink = host.sink = OtlpSink(table_of(collector.url, **more), host)
    sink.open(0, b"")
    return sink


def messages(*numbers: int) -> list[Message]:
    return [Message("app", number, {"n": number, "message": "x"}, number, 5) for number in numbers]


def is_odd(record: Any) -> bool:
    return bool(attributes_of(record)["n"] % 2)


@pytest.mark.parametrize("compress", ["gzip", "none"])
def test_messages_arrive(host: Alone, compress: str) -> None:
    """In order, on one connection, with ids that are the same when they come again and others after a rewind."""
    with Collector() as collector:
        sink = sink_of(collector, host, compress=compress)
        sink.deliver_groups([messages(1, 2, 3)])
        sink.deliver_groups([messages(4)])
        sink.idle(0)
        assert (collector.numbers, sink.safe, sink.settle()) == ([1, 2, 3, 4], 4, b"")
        assert collector.connections == 1
        assert [headers.get("Content-Encoding") for headers in collector.headers] == [
            "gzip" if compress == "gzip" else None
        ] * 2
        uid = host.hub_id.hex()
        assert attributes_of(collector.records[0])["log.record.uid"] == f"{uid}-1"
        host.rewound = 2
        sink_of(collector, host).deliver_groups([messages(1)])
        assert attributes_of(collector.records[-1])["log.record.uid"] == f"{uid}-2-1"


@pytest.mark.parametrize(
    ("manner", "words"),
    [
        ("busy", "HTTP 429: not now"), ("away", "HTTP 503"), ("broken", "HTTP 500"), ("locked", "HTTP 401"),
        ("lost", "HTTP 404"), ("cut", "without response"), ("garbage", "is not HTTP"),
    ],
)  # fmt: skip
def test_not_now(host: Alone, manner: str, words: str) -> None:
    """What is not about the content is a fault, in printable words; nothing is refused or safe."""
    with Collector(manner) as collector:
        sink = sink_of(collector, host)
        with pytest.raises(SinkFault, match=words) as fault:
            sink.deliver_groups([messages(1, 2)])
        assert str(fault.value).isprintable()
        assert (sink.safe, host.refused, collector.numbers) == (0, [], [])


def test_a_closed_connection_is_replaced(host: Alone) -> None:
    """A server may close it after any reply."""
    with Collector("closing") as collector:
        sink = sink_of(collector, host)
        for number in range(1, 6):
            sink.deliver_groups([messages(number)])
        assert collector.numbers == [1, 2, 3, 4, 5]
        assert collector.connections == 5


def test_bad_messages_are_found_and_the_others_arrive(host: Alone) -> None:
    """The request is halved; each bad message is refused with the words of the server, in order."""
    with Collector("picky", bad=is_odd) as collector:
        sink = sink_of(collector, host)
        sink.deliver_groups([messages(*range(1, 11))])
        assert collector.numbers == [2, 4, 6, 8, 10]
        assert host.refused == [(number, "HTTP 400: bad request") for number in (1, 3, 5, 7, 9)]
        assert sink.safe == 10
        sink.deliver_groups([messages(11, 13)])  # all are bad, but others were accepted
        assert [number for number, _ in host.refused][-2:] == [11, 13]
        assert collector.empty == 0


def test_requests_that_are_too_large_are_halved(host: Alone) -> None:
    """All messages arrive, in order."""
    with Collector("small") as collector:
        sink_of(collector, host).deliver_groups([messages(*range(1, 8))])
        assert (collector.numbers, host.refused) == ([*range(1, 8)], [])


def test_a_server_that_refuses_everything_is_a_fault(host: Alone) -> None:
    """An empty request is refused, too: it may be no collector at all. No dead letters."""
    with Collector("refusing") as collector:
        sink = sink_of(collector, host)
        with pytest.raises(SinkFault, match="refuses every request: HTTP 400"):
            sink.deliver_groups([messages(1, 2)])
        assert (host.refused, sink.safe) == ([], 0)


def test_the_first_messages_may_be_bad(host: Alone) -> None:
    """A server that takes an empty request is a collector: what it refuses is bad."""
    with Collector("picky", bad=is_odd) as collector:
        sink = sink_of(collector, host)
        sink.deliver_groups([messages(1, 3)])
        assert ([number for number, _ in host.refused], collector.empty) == ([1, 3], 1)
        sink.deliver_groups([messages(5, 6)])
        assert collector.numbers == [6]


def test_a_fault_in_the_middle_repeats_little(host: Alone) -> None:
    """The parts that were accepted before it are safe."""
    with Collector("small", "good", "away") as collector:
        sink = sink_of(collector, host)
        with pytest.raises(SinkFault, match="HTTP 503"):
            sink.deliver_groups([messages(1, 2, 3, 4)])
        assert (collector.numbers, sink.safe) == ([1, 2], 2)


def test_partial_success(host: Alone, capsys: pytest.CaptureFixture[str]) -> None:
    """Some are rejected: a loss, for it does not say which. All: they are refused. A text alone is logged."""
    with Collector("partial", "nothing", "warning", "warning", "own", "good") as collector:
        sink = sink_of(collector, host)
        sink.deliver_groups([messages(1, 2)])
        assert host.lost == [(1, "rejected, of the sequences 1 to 2: too old")]
        sink.deliver_groups([messages(3, 4)])
        assert host.refused == [(3, "rejected: too old"), (4, "rejected: too old")]
        for number in (5, 6, 7, 8):
            sink.deliver_groups([messages(number)])
        assert capsys.readouterr().err.count('"event": "otlp.warned"') == 1
        assert (len(host.lost), len(host.refused), sink.safe) == (1, 2, 8)


def test_no_answer(host: Alone) -> None:
    """It is a fault after a time; an order ends the wait at once."""
    with Collector("hanging") as collector:
        sink = sink_of(collector, host, timeout=0.1)
        with pytest.raises(SinkFault, match=r"no answer in 0\.1 s"):
            sink.deliver_groups([messages(1)])
        sink = sink_of(collector, host, timeout=60)
        host.halted = True
        with pytest.raises(Halted):
            sink.deliver_groups([messages(1)])


def test_secret_headers(host: Alone, tmp_path: Path) -> None:
    """They come from a file that others cannot read; what is wrong with it is said without them."""
    file = tmp_path / "headers"
    file.write_text("Authorization: Bearer Tr1ck\n\nX-Other:b\n")
    file.chmod(0o600)
    with Collector(token="Bearer Tr1ck") as collector:
        sink = sink_of(collector, host, headers=(Header("X-Scope-OrgID: a"),), headers_file=AbsolutePath(str(file)))
        sink.deliver_groups([messages(1)])
        (headers,) = collector.headers
        assert (headers["X-Scope-OrgID"], headers["X-Other"], collector.numbers) == ("a", "b", [1])
        with pytest.raises(SinkFault, match="HTTP 401: no token"):
            sink_of(collector, host).deliver_groups([messages(2)])
        file.write_text("Tr1ck without a colon\n")
        with pytest.raises(SinkFault, match=f"{file}: not a header") as fault:
            check_table(table_of(collector.url, headers_file=AbsolutePath(str(file))))
        assert "Tr1ck" not in str(fault.value)
    check_table(table_of("https://127.0.0.1:1/"))
    with pytest.raises(SinkFault, match="No such file"):
        check_table(table_of("https://127.0.0.1:1/", tls_ca=AbsolutePath(f"{tmp_path}/absent")))


def test_retry_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds or a date, bounded."""
    monkeypatch.setattr("hub.sinks.otlp.time.time", lambda: 1000.0)
    for given, expected in (
        ("7", 7.0), ("99999", RETRY_AFTER_S_MAX), (email.utils.formatdate(1020), 20.0), ("soon", 0.0), ("", 0.0),
        (email.utils.formatdate(900), 0.0), (email.utils.formatdate(1e7), RETRY_AFTER_S_MAX),
    ):  # fmt: skip
        assert retry_after_s(Reply(429, {"retry-after": given}, b"")) == expected


def test_through_all_manners_each_message_arrives(tmp_path: Path) -> None:
    """Whatever it does, every message is accepted, in order; one comes again only after a lost answer."""
    manners = ["good", "busy", "cut", "away", "closing", "small", "garbage", "broken", "locked", "good"]

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            with Collector(*manners) as collector:
                table = table_of(collector.url)
                runner = Runner(table, rig.journal, rig.reports, delays=Delays(0.001, 0.001, lambda: 0.0))
                for number in range(30):
                    await rig.journal.append([numbered(number)])
                await until(lambda: collector.numbers[-1:] == [29])
                await until(lambda: len(collector.manners) == 1 or runner.needed_from == 31)
                await runner.stop(30)
                assert collector.numbers == [*range(30)]
                assert rig.stored("mpsr.dead") == []

    asyncio.run(main())


def test_a_pause_is_as_long_as_the_server_says(tmp_path: Path) -> None:
    """Retry-After is a lower limit for the pause after a fault."""

    async def main() -> None:
        async with hub_in(tmp_path) as rig:
            await rig.journal.append([numbered(1)])
            with Collector("busy", "good") as collector:
                delays = Delays(0.001, 0.001, lambda: 0.0)
                asked: list[Reply] = []

                def one_second(reply: Reply) -> float:
                    asked.append(reply)
                    return 0.3

                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(module, "retry_after_s", one_second)
                    began = time.monotonic()
                    runner = Runner(table_of(collector.url), rig.journal, rig.reports, delays=delays)
                    await until(lambda: collector.numbers == [1])
                    assert time.monotonic() - began >= 0.3
                    assert len(asked) == 1
                    await runner.stop(30)

    asyncio.run(main())
