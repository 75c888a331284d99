"""`HubHandler` in a program's `logging`: how a record is sent."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import logging.handlers
import multiprocessing
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from producers import HubHandler, Producer
from producers.logs.sanitize import REPR_KEY
from tests.producers.helpers import dropped, stuffed, until_waiting
from tests.support import PATIENCE_S, HubProcess

Records = Callable[[], list[dict[str, Any]]]
WHERE = ("pathname", "lineno", "func", "thread", "process")


@pytest.fixture
def handler(hub: HubProcess) -> Iterator[HubHandler]:
    """A handler that sends to the tests' hub."""
    handler = HubHandler(hub.socket)
    yield handler
    handler.close()


@pytest.fixture
def log(tag: str, handler: HubHandler) -> Iterator[logging.Logger]:
    """A logger named *tag*, with only that handler."""
    logger = logging.getLogger(tag)
    logger.propagate = False
    logger.setLevel(1)
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)


@pytest.fixture
def records(hub: HubProcess, tag: str, handler: HubHandler) -> Records:
    """The messages that have arrived under *tag*."""

    def arrived() -> list[dict[str, Any]]:
        handler.producer.flush(PATIENCE_S)
        return [message.record for message in hub.messages(tag)]

    return arrived


def without(record: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}


def test_a_record_keeps_its_structure(log: logging.Logger, records: Records) -> None:
    """Level, message, logger and place are separate fields, and the fields of `extra` are beside them."""
    log.warning("%d of %s", 3, "ten", extra={"order": 17, "tags": ["a", {"b": None}]})
    (record,) = records()
    line = test_a_record_keeps_its_structure.__code__.co_firstlineno + 2
    assert record == {
        "level": "warning", "message": "3 of ten", "logger": log.name, "pathname": __file__, "lineno": line,
        "func": "test_a_record_keeps_its_structure", "thread": "MainThread", "process": "MainProcess",
        "order": 17, "tags": ["a", {"b": None}],
    }  # fmt: skip


def test_reserved_names_win(log: logging.Logger, records: Records) -> None:
    """An extra field with a reserved name gets as many trailing `_` as needed, even if the reserved field is absent."""
    log.info("x", extra={"level": 1, "level_": 2, "logger": 3, "task": 4, "traceback": 5, "func": 6, REPR_KEY: 7})
    (record,) = records()
    assert (record["level"], record["logger"]) == ("info", log.name)
    extra = without(record, "level", "logger", "message", *WHERE)
    assert extra == {
        "level_": 1,
        "level__": 2,
        "logger_": 3,
        "task_": 4,
        "traceback_": 5,
        "func_": 6,
        f"{REPR_KEY}_": 7,
    }


def test_levels(log: logging.Logger, records: Records) -> None:
    """Level names are in lower case, also custom ones."""
    logging.addLevelName(25, "NOTICE")
    for level in (10, 20, 25, 30, 40, 50, 33):
        log.log(level, "x")
    names = [record["level"] for record in records()]
    assert names == ["debug", "info", "notice", "warning", "error", "critical", "level 33"]


def test_the_number_of_a_level_of_the_applications_own(tag: str, handler: HubHandler, records: Records) -> None:
    """It is kept, so that `--level` finds the record. A level of `logging` has its name, whatever a formatter made."""
    for number, name in ((25, "\x1b[32mSUCCESS\x1b[0m"), (40, "\x1b[31mERROR\x1b[0m"), (35, "  Odd ")):
        record = logging.LogRecord(tag, number, "", 0, "x", (), None)
        record.levelname = name
        handler.handle(record)
    assert [(record["level"], record.get("levelno")) for record in records()] == [
        ("success", 25), ("error", None), ("odd", 35),
    ]  # fmt: skip


def test_an_exception_is_data_and_text(log: logging.Logger, records: Records) -> None:
    """`exc_info` has type, message and frames, `traceback` the text of Python; without an exception both are absent."""
    try:
        raise KeyError("total")
    except KeyError as error:
        log.exception("failed")
        log.error("again", exc_info=error)
    log.info("nothing to see", exc_info=True)
    first, second, nothing = records()
    frame = {"file": __file__, "line": first["lineno"] - 2, "function": first["func"]}
    expected = {"type": "KeyError", "module": "builtins", "message": "'total'", "frames": [frame]}
    assert first["exc_info"] == second["exc_info"] == expected
    assert first["traceback"].startswith("Traceback (most recent call last):\n")
    assert first["traceback"].endswith("KeyError: 'total'")
    assert not {"exc_info", "traceback", "stack_info", "task"} & set(nothing)


def test_stack_info(log: logging.Logger, records: Records) -> None:
    """The stack is text, as `logging` formats it."""
    log.info("here", stack_info=True)
    assert records()[0]["stack_info"].startswith("Stack (most recent call last):\n")


def test_task_thread_and_process(log: logging.Logger, records: Records) -> None:
    """Task, thread and process are given by name."""

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("charge")
        log.info("in a task")

    asyncio.run(main())
    thread = threading.Thread(target=log.info, args=("in a thread",), name="worker-7")
    thread.start()
    thread.join(PATIENCE_S)
    process = multiprocessing.current_process()
    process.name = "Worker-9"
    log.info("in a process")
    process.name = "MainProcess"
    task, threaded, processed = records()
    assert (task["task"], threaded["thread"], processed["process"]) == ("charge", "worker-7", "Worker-9")
    assert "task" not in threaded


def test_time_is_the_records(hub: HubProcess, tag: str, handler: HubHandler) -> None:
    """The time is the record's float, exact to the nanosecond."""
    made = [logging.makeLogRecord({"name": tag, "created": when}) for when in (1_700_000_000.1234567, 0.5, 1e9)]
    for record in made:
        handler.handle(record)
    handler.producer.flush(PATIENCE_S)
    expected = [int(Fraction(record.created) * 10**9) for record in made]
    assert [message.time for message in hub.messages(tag)] == expected


@pytest.mark.parametrize(
    ("name", "given", "variable", "expected"),
    [
        ("app.web", None, None, "app.web"),
        ("root", None, None, "python"),
        ("app.web", "shop", None, "shop"),
        ("app.web", None, "worker.1", "worker.1"),
        ("app.web", "shop", "worker.1", "shop"),
        ("x" * 5000, None, None, "x" * 4096),
    ],
)
def test_tags(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, given: str | None, variable: str | None, expected: str
) -> None:
    """The tag is the given one, else `$MPSR_TAG`, else the logger's name, which is `python` for the root logger."""
    if variable:
        monkeypatch.setenv("MPSR_TAG", variable)
    with HubProcess(folder) as hub:
        handler = HubHandler(hub.socket, tag=given)
        handler.handle(logging.makeLogRecord({"name": name, "msg": "tagged"}))
        handler.close()
        (message,) = hub.messages()
        assert (message.tag, message.record["logger"]) == (expected, name)


class Counting:
    """Counts how often it is formatted."""

    count = 0

    def __str__(self) -> str:
        self.count += 1
        return "counted"


def test_a_formatter_makes_the_message(tag: str, handler: HubHandler, records: Records) -> None:
    """`message` is the formatter's output; with or without one, arguments are formatted once."""
    counting = Counting()
    record = logging.LogRecord(tag, logging.INFO, "", 0, "%s", (counting,), None)  # pytest's handlers format too
    handler.handle(record)
    handler.setFormatter(logging.Formatter("<%(levelname)s> %(message)s"))
    handler.handle(record)
    assert [record["message"] for record in records()] == ["counted", "<INFO> counted"]
    assert counting.count == 2


@pytest.mark.parametrize(
    "formatter",
    [
        logging.Formatter(),
        logging.Formatter(logging.BASIC_FORMAT),
        logging.Formatter("{levelname}:{name}:{message}", style="{"),
        logging.Formatter("${message}", style="$"),
    ],
)
def test_a_default_formatter_of_logging_is_ignored(
    formatter: logging.Formatter, tag: str, handler: HubHandler, records: Records
) -> None:
    """`basicConfig` sets one for every handler; the record keeps its structure."""
    handler.setFormatter(formatter)
    handler.handle(logging.LogRecord(tag, logging.INFO, "", 0, "%d of %s", (3, "ten"), None))
    (record,) = records()
    assert record["message"] == "3 of ten"


def test_basic_configuration(hub: HubProcess) -> None:
    """`logging.basicConfig(handlers=[HubHandler()])` keeps a dict message and an exception as data."""
    code = """
import logging, sys
from producers import HubHandler
logging.basicConfig(handlers=[HubHandler(sys.argv[1])])
try:
    raise KeyError("total")
except KeyError:
    logging.getLogger("basic.configuration").exception({"event": "failed", "order": 3})
"""
    subprocess.run([sys.executable, "-c", code, hub.socket], check=True, timeout=60, cwd="/")
    (message,) = hub.messages("basic.configuration")
    assert (message.record["event"], message.record["order"]) == ("failed", 3)
    assert message.record["exc_info"]["type"] == "KeyError"


@pytest.mark.parametrize("is_loud", [True, False])
def test_arguments_that_do_not_fit(
    tag: str,
    handler: HubHandler,
    records: Records,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    is_loud: bool,
) -> None:
    """
    The mistake is reported as in `logging`, if `raiseExceptions` is set; the message arrives with its arguments beside
    it.
    """
    monkeypatch.setattr(logging, "raiseExceptions", is_loud)
    handler.handle(logging.LogRecord(tag, logging.INFO, "", 0, "%d orders", ("many",), None))
    (record,) = records()
    assert (record["message"], record["args"]) == ("%d orders", ["many"])
    assert ("--- Logging error ---" in capsys.readouterr().err) is is_loud


def test_what_cannot_be_sent_gets_its_repr(log: logging.Logger, records: Records) -> None:
    """Objects, cycles, huge integers and lone surrogates: nothing is lost, and the record lists the replaced values."""
    ring: list[Any] = []
    ring.append(ring)
    log.info("\udcff", extra={"path": Path("/a"), "ring": ring, "huge": 2**70, "map": {(1, 2): 3}, "fine": 4})
    (record,) = records()
    assert record["message"] == "\\udcff"
    assert record["path"] == "PosixPath('/a')"
    assert (record["ring"], record["huge"], record["map"], record["fine"]) == (
        ["[[...]]"],
        str(2**70),
        {"(1, 2)": 3},
        4,
    )
    assert sorted(record[REPR_KEY]) == ["huge", "map.(1, 2) (the key)", "message", "path", "ring[0]"]


def test_a_repr_that_logs(log: logging.Logger, records: Records) -> None:
    """A log call while another is formatted is no loop: its message arrives first."""

    class Chatty:
        def __repr__(self) -> str:
            log.info("inner")
            return "<chatty>"

    log.info("outer", extra={"x": Chatty()})
    assert [record["message"] for record in records()] == ["inner", "outer"]
    assert records()[1]["x"] == "<chatty>"


def test_a_dict_as_message(log: logging.Logger, records: Records) -> None:
    """The fields of a dict become fields of the record; `message` is its own, if it has one."""
    log.info({"event": "paid", "order": 17, "level": "info"})
    log.info({"message": "paid", "lineno": "mine"}, extra={"n": 1})
    first, second = records()
    assert without(first, *WHERE) == {"level": "info", "logger": log.name, "event": "paid", "order": 17}
    assert without(second, *WHERE) == {
        "level": "info", "logger": log.name, "message": "paid", "lineno_": "mine", "n": 1,
    }  # fmt: skip


def test_extra_fields_anywhere(tag: str, handler: HubHandler, records: Records) -> None:
    """Extra fields are found if somebody has removed an attribute of `logging`, or set a field before those."""
    changed, early = (logging.LogRecord(tag, logging.INFO, "", 0, "hello", (), None) for _ in range(2))
    last = list(changed.__dict__)[-1]
    changed.__dict__["x"] = 1
    changed.__dict__[last] = changed.__dict__.pop(last)
    early.__dict__ = {"y": 2, **early.__dict__, "message": "hello", "z": 3}
    handler.handle(changed)
    handler.handle(early)
    first, second = records()
    assert (first["x"], second["y"], second["z"]) == (1, 2, 3)


def test_filters(log: logging.Logger, handler: HubHandler, records: Records) -> None:
    """A record that a filter refuses is not sent; fields that a filter adds are."""

    def add(record: logging.LogRecord) -> bool:
        record.request = "r1"
        return record.msg != "no"

    handler.addFilter(add)
    log.info("no")
    log.info("yes")
    assert [(record["message"], record["request"]) for record in records()] == [("yes", "r1")]


def test_a_queue_in_front(log: logging.Logger, handler: HubHandler, records: Records) -> None:
    """Records that passed through the standard library's queue handler keep the fields that it leaves."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(waiting, handler)
    log.removeHandler(handler)
    log.addHandler(in_front := logging.handlers.QueueHandler(waiting))
    listener.start()
    log.info("hello", extra={"n": 1})
    listener.stop()
    log.removeHandler(in_front)
    (record,) = records()
    assert (record["message"], record["n"], record["thread"]) == ("hello", 1, "MainThread")


def test_configuration(hub: HubProcess, tag: str) -> None:
    """`dictConfig` works, also twice: a logger's handler that was closed meanwhile goes on."""
    section = {"class": "producers.HubHandler", "path": hub.socket, "tag": tag, "level": "INFO"}
    config = {"version": 1, "disable_existing_loggers": False, "handlers": {"hub": section}}
    logging.config.dictConfig({**config, "loggers": {f"{tag}.a": {"handlers": ["hub"], "propagate": False}}})
    logger = logging.getLogger(f"{tag}.a")
    (handler,) = logger.handlers
    assert isinstance(handler, HubHandler)
    assert repr(handler) == f"<HubHandler {hub.socket} (INFO)>"
    logger.warning("before")
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
    logger.warning("after")
    handler.close()
    assert [message.record["message"] for message in hub.messages(tag)] == ["before", "after"]


def test_nothing_of_logging_is_locked_while_it_waits(folder: Path) -> None:
    """While one thread waits for room in the backlog, the lock of the handler is free."""
    producer = Producer(str(folder / "s"), backlog_bytes_max=8 << 10, spool=False)
    stuffed(producer)
    handler = HubHandler(producer=producer, wait_s_max=PATIENCE_S)
    record = logging.makeLogRecord({"name": "x", "msg": "y" * 100})
    waiter = threading.Thread(target=handler.handle, args=(record,))
    waiter.start()
    until_waiting(waiter)
    assert handler.lock is not None
    assert handler.lock.acquire(blocking=False)
    handler.lock.release()
    dropped(producer)
    waiter.join(PATIENCE_S)


@pytest.mark.parametrize("is_loud", [True, False])
def test_nothing_is_raised_into_the_application(
    hub: HubProcess, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_loud: bool
) -> None:
    """A producer that its owner has closed is a fault for `handleError`, which reports it or not."""
    monkeypatch.setattr(logging, "raiseExceptions", is_loud)
    producer = Producer(hub.socket)
    handler = HubHandler(producer=producer)
    producer.close()
    handler.handle(logging.makeLogRecord({"name": "x", "msg": "late"}))
    assert ("ProducerClosed" in capsys.readouterr().err) is is_loud


def test_a_record_of_nothing(folder: Path) -> None:
    """A record that was made by hand, without a name, is sent too."""
    with HubProcess(folder) as hub:
        handler = HubHandler(hub.socket)
        handler.handle(logging.makeLogRecord({}))
        handler.close()
        (message,) = hub.messages()
        assert (message.tag, message.record["logger"], message.record["message"]) == ("python", None, "")


def test_drops_are_counted(folder: Path) -> None:
    """Messages that find no room within the budget are dropped, and `dropped` counts them."""
    producer = Producer(str(folder / "s"), backlog_bytes_max=8 << 10, spool=False)
    stuffed(producer)
    handler = HubHandler(producer=producer, wait_s_max=0)
    for _ in range(3):
        handler.handle(logging.makeLogRecord({"name": "x", "msg": "y" * 100}))
    assert handler.dropped == 3
    dropped(producer)
