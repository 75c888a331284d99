"""structlog to the hub: chain, loggers, exceptions, tasks, and the path through `logging`."""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.processors import JSONRenderer, TimeStamper, add_log_level

from producers import HubHandler, HubLoggerFactory, HubRenderer, Producer
from producers.logs.sanitize import REPR_KEY
from tests.support import PATIENCE_S, HubProcess

NS = 10**9


@pytest.fixture(autouse=True)
def _as_new() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


class Shop:
    """A program that logs with structlog, and its messages that have arrived."""

    def __init__(self, hub: HubProcess, tag: str, *processors: Any, **options: Any) -> None:
        self.factory = HubLoggerFactory(hub.socket)
        structlog.configure(
            processors=[*processors, HubRenderer()] if not options.get("raw") else [*processors],
            logger_factory=self.factory,
            cache_logger_on_first_use=False,
        )
        self.log: Any = structlog.get_logger(tag)
        self._hub, self._tag = hub, tag

    def messages(self) -> list[Any]:
        self.factory.producer.close(PATIENCE_S)
        return self._hub.messages(self._tag)

    def records(self) -> list[dict[str, Any]]:
        return [message.record for message in self.messages()]


def test_an_event_is_sent_as_it_is(hub: HubProcess, tag: str) -> None:
    """Its fields arrive in order, nested ones too; the tag is the logger's name, the level the method's."""
    shop = Shop(hub, tag)
    shop.log.bind(order=17).warning("paid", items=[{"n": 1}, None])
    (record,) = shop.records()
    assert record == {"order": 17, "items": [{"n": 1}, None], "event": "paid", "level": "warning"}


def test_levels(hub: HubProcess, tag: str) -> None:
    """A level set by a processor is kept; otherwise it is the method's name, as `mpsr logs --level` spells it."""
    shop = Shop(hub, tag)
    for name in ("debug", "info", "warning", "error", "critical", "exception", "fatal"):
        getattr(shop.log, name)("x")
    shop.log.info("x", level="notice")
    levels = [record["level"] for record in shop.records()]
    assert levels == ["debug", "info", "warning", "error", "critical", "error", "critical", "notice"]


@pytest.mark.parametrize(
    ("method", "level"), [("warn", "warning"), ("exception", "error"), ("fatal", "critical"), ("msg", "info")]
)
def test_levels_of_other_loggers(method: str, level: str) -> None:
    """Bound loggers that pass on the name of the called method get the same levels."""
    (event,), _ = HubRenderer()(None, method, {"event": "x"})
    assert event["level"] == level


NOON = datetime.datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        ("2026-11-20T12:00:00.123456Z", int(NOON.timestamp()) * NS + 123_456_000),
        ("2026-11-20T14:00:00.123456+02:00", int(NOON.timestamp()) * NS + 123_456_000),
        (NOON, int(NOON.timestamp()) * NS + 123_456_000),
        (1_700_000_000, 1_700_000_000 * NS),
        (1_700_000_000.5, 1_700_000_000 * NS + NS // 2),
        ("12:00", None),
        ("2026-11-20", None),
        (1_700_000_000_123, None),
        (-5, None),
        (None, None),
        ({"at": 1}, None),
    ],
)
def test_times(timestamp: Any, expected: int | None) -> None:
    """The event's timestamp becomes the message's time; a value that is not a time stays in the event."""
    (event,), options = HubRenderer()(None, "info", {"event": "x", "timestamp": timestamp})
    assert options.get("time_ns") == expected
    assert ("timestamp" in event) is (expected is None)


def test_the_time_of_a_stamper(hub: HubProcess, tag: str) -> None:
    """structlog's TimeStamper works in both of its usual formats; without one a message has a time, too."""
    for stamper in (TimeStamper(fmt="iso"), TimeStamper()):
        shop = Shop(hub, tag, stamper)
        shop.log.info("x")
        message = shop.messages()[-1]
        assert "timestamp" not in message.record
        assert abs(message.received - message.time) < 60 * NS
    renamed, _ = HubRenderer("at")(None, "info", {"event": "x", "at": 1.5})
    assert renamed == ({"event": "x", "level": "info"},)


def test_exceptions(hub: HubProcess, tag: str) -> None:
    """
    `exc_info` is data, with the text in `traceback`, in whatever form it was given; a processor's own version stays.
    """
    shop = Shop(hub, tag)
    try:
        raise KeyError("total")
    except KeyError as error:
        shop.log.exception("a")
        shop.log.error("b", exc_info=error)
        shop.log.error("c", exc_info=True)
        structlog.configure(processors=[structlog.processors.format_exc_info, HubRenderer()])
        shop.log.exception("d")
    shop.log.info("e", exc_info=True)
    *described, formatted, nothing = shop.records()
    for record in described:
        assert (record["exc_info"]["type"], record["exc_info"]["message"]) == ("KeyError", "'total'")
        assert record["traceback"].endswith("KeyError: 'total'")
    assert formatted["exception"].endswith("KeyError: 'total'")
    assert not {"exc_info", "traceback"} & {*formatted, *nothing}


def test_an_exception_of_a_broken_class(hub: HubProcess, tag: str) -> None:
    """It raises nothing into the application, and the event arrives."""

    class Hostile(Exception):
        def __getattr__(self, name: str) -> object:
            raise RuntimeError(name)

        def __str__(self) -> str:
            raise RuntimeError("no")

    shop = Shop(hub, tag)
    try:
        raise Hostile
    except Hostile:
        shop.log.exception("failed")
    (record,) = shop.records()
    assert (record["event"], record["exc_info"]["type"].rpartition(".")[2]) == ("failed", "Hostile")


def test_what_cannot_be_sent_gets_its_repr(hub: HubProcess, tag: str) -> None:
    """As with the handler of `logging`, nothing is lost and nothing is raised."""
    shop = Shop(hub, tag)
    shop.log.info("x", kind=int, huge=2**70)
    (record,) = shop.records()
    assert (record["kind"], record["huge"]) == ("<class 'int'>", str(2**70))
    assert record[REPR_KEY] == ["kind", "huge"]


def test_contextvars_and_async_loggers(hub: HubProcess, tag: str) -> None:
    """Values bound to a task are in its events; `ainfo` and the like arrive with the exception of their task."""
    shop = Shop(hub, tag, structlog.contextvars.merge_contextvars)

    async def handle(request: int) -> None:
        structlog.contextvars.bind_contextvars(request=request)
        await shop.log.ainfo("started")
        try:
            raise ValueError(request)
        except ValueError:
            await shop.log.aexception("failed")

    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            for request in range(5):
                group.create_task(handle(request))

    asyncio.run(main())
    records = shop.records()
    for request in range(5):
        started, failed = (record for record in records if record["request"] == request)
        assert (started["event"], started["level"]) == ("started", "info")
        assert (failed["event"], failed["level"], failed["exc_info"]["message"]) == ("failed", "error", str(request))


def test_other_renderers(hub: HubProcess, tag: str) -> None:
    """A chain that ends in text sends text: the factory works with every chain."""
    shop = Shop(hub, tag, add_log_level, JSONRenderer(), raw=True)
    shop.log.info("x", n=1)
    assert shop.records() == [{"message": '{"n": 1, "event": "x", "level": "info"}'}]


def test_names_and_tags(hub: HubProcess, tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tag is the given one, else `$MPSR_TAG`, else the logger's name; `add_logger_name` reads the name."""
    renderer = HubRenderer()
    with Producer(hub.socket, tag=f"{tag}.default") as producer:
        structlog.configure(processors=[structlog.stdlib.add_logger_name, renderer])
        structlog.configure(logger_factory=HubLoggerFactory(producer=producer))
        structlog.get_logger().info("nameless")
        structlog.configure(logger_factory=HubLoggerFactory(producer=producer, tag=f"{tag}.given"))
        structlog.get_logger("shop").info("given")
        monkeypatch.setenv("MPSR_TAG", f"{tag}.spawned")
        structlog.configure(logger_factory=HubLoggerFactory(producer=producer))
        structlog.get_logger("shop").info("spawned")
    found = [(message.tag, message.record["logger"]) for message in hub.messages(f"{tag}.*")]
    assert found == [(f"{tag}.default", "root"), (f"{tag}.given", "shop"), (f"{tag}.spawned", "shop")]


def test_nothing_is_raised_into_the_application(hub: HubProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """A fault is reported on standard error."""
    producer = Producer(hub.socket)
    structlog.configure(processors=[HubRenderer()], logger_factory=HubLoggerFactory(producer=producer))
    producer.close()
    structlog.get_logger("x").info("late")
    assert "ProducerClosed" in capsys.readouterr().err


def test_through_logging(hub: HubProcess, tag: str) -> None:
    """With structlog in front of `logging`, `wrap_for_formatter` passes the event dict to the handler, not text."""
    handler = HubHandler(hub.socket)
    logger = logging.getLogger(tag)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    log = structlog.get_logger(tag)
    log.info("paid", order=17)
    try:
        raise KeyError("total")
    except KeyError:
        log.exception("failed")
    logger.removeHandler(handler)
    handler.close()
    paid, failed = (message.record for message in hub.messages(tag))
    assert (paid["event"], paid["order"], paid["level"], paid["logger"]) == ("paid", 17, "info", tag)
    assert not {"_logger", "_name", "level_", "logger_", "message", REPR_KEY} & set(paid)
    assert (failed["event"], failed["exc_info"]["type"]) == ("failed", "KeyError")
