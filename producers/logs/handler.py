"""
A handler that sends the standard library's `logging` to the hub: `HubHandler`.

    logging.getLogger().addHandler(HubHandler())

A record keeps its structure:

    level, message, logger, pathname, lineno, func, thread, process    always; `level` in lower case (a structlog dict
                                                                       may lack `message`)
    levelno                                                            of a level that `logging` does not define
    task                                                               the asyncio task's name, in a task
    exc_info, traceback, stack_info                                    with an exception, a stack
    the fields of `extra`                                              beside these; an extra field with one of these
                                                                       names gets a trailing `_`

Always true:
- nothing is raised into the application: faults go to `handleError`, as in every handler of `logging`. The exception is
  RecursionError, which is the application's; the standard library's handlers let it pass, too;
- the log of our own producers goes to other handlers, or to standard error: sent to the hub, it would cause more of
  itself;
- no lock of `logging` is held while a record is sent: any thread may use a `Producer`, and a thread that waits blocks
  no other.

Not here: sending records to the hub (producers.logs.emitter), exceptions as data (producers.logs.exceptions).
"""

from __future__ import annotations

import logging
import operator
import os
import struct
import sys
from collections.abc import Container, Mapping
from typing import Any

from hub.entries import NS, RECORD_NESTING_MAX
from producers.blocking import Producer
from producers.logs import exceptions
from producers.logs.emitter import WAIT_S_MAX, Emitter, pack_whatever, tag_of_process
from producers.logs.places import BY_LOGGING, KEY, OwnRecord, Places, key_of, level_of
from producers.logs.sanitize import CUT_KEY, REPR_KEY, safe_str
from producers.record import check_depth, pack_any_depth

CLOSE_TIMEOUT_S = 1.0
STANDARD = frozenset(BY_LOGGING) | {"message", "asctime", "taskName"}
"""The attributes of a record that are not extra."""
RESERVED = frozenset((
    "level", "message", "logger", "pathname", "lineno", "func", "thread", "process", "levelno", "task", "exc_info",
    "traceback", "stack_info", REPR_KEY, CUT_KEY,
))  # fmt: skip

_STANDARD_COUNT, _LAST_STANDARD = len(BY_LOGGING), BY_LOGGING[-1]
_SPECIAL = STANDARD | RESERVED | {"extra"}
_USED = "created", "msg", "args", "threadName", "exc_info", "exc_text", "stack_info"
_get = operator.itemgetter(*_USED)
# Raises KeyError if a record lacks an attribute: then it may have the usual number of them all the same.
_check_others = operator.itemgetter(*(name for name in BY_LOGGING if name not in _USED and name not in KEY))
_START = struct.Struct(">3sIIB")  # array of 2, fixext8, type 0; seconds, nanoseconds; a map of up to 15 pairs
_LARGEST_FIXMAP = 0x8F

_FROM_STRUCTLOG = {"_logger", "_name"}  # added by ProcessorFormatter.wrap_for_formatter for its own use
_SAME = ("level", "logger")  # duplicated by its `add_log_level` and `add_logger_name`
_DEFAULT_FORMATS = {  # of `logging`, in its three styles
    "%(message)s", "{message}", "${message}",
    "%(levelname)s:%(name)s:%(message)s", "{levelname}:{name}:{message}", "${levelname}:${name}:${message}",
}  # fmt: skip
_MAY_HAVE_TASK = sys.version_info >= (3, 12)  # records have the name of the task
_TRACEBACK = "\nTraceback (most recent call last):"


class HubHandler(logging.Handler):
    """
    Sends records to the hub at *path* (default: ``$MPSR_SOCKET``, else the default socket of `mpsr hub`).

    The hub need not be running. Messages that it cannot take yet wait, up to 64 MiB; if the hub has created a spool
    folder, they survive this process. Only when the 64 MiB are full does the application wait: **1 second in total per
    outage of the hub** (*wait_s_max*; 0: never), for all messages and threads together. After that, messages are
    dropped, counted (`dropped`), and reported under ``mpsr.loss.client`` when the hub is back.

    *tag* is the tag of all messages. Its default is ``$MPSR_TAG``, else the name of each logger (``python`` for the
    root logger). *producer* is a producer of your own, with its own options; you have to close it. With a formatter,
    ``message`` is its output. A value that msgpack cannot hold is sent as its `repr`, and its path is listed in
    ``mpsr.repr``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        tag: str | None = None,
        level: int | str = logging.NOTSET,
        producer: Producer | None = None,
        wait_s_max: float = WAIT_S_MAX,
    ) -> None:
        super().__init__(level)
        self._emitter = Emitter(path, producer=producer, wait_s_max=wait_s_max)
        self._places = Places(tag or tag_of_process(), self._emitter.tag_bytes)

    @property
    def producer(self) -> Producer:
        """The producer that sends the messages; it has `stats`."""
        return self._emitter.producer

    @property
    def dropped(self) -> int:
        """Number of messages for which there was no room."""
        return self._emitter.dropped

    def handle(self, record: logging.LogRecord) -> Any:
        """Emit *record* if the filters let it pass. No lock is held meanwhile."""
        kept: Any = True
        if self.filters:
            kept = self.filter(record)
            if not kept:
                return kept
            if isinstance(kept, logging.LogRecord):  # since Python 3.12 a filter may return another record
                record = kept
        self.emit(record)
        return kept

    def emit(self, record: logging.LogRecord) -> None:
        """Send *record*."""
        try:
            tag, entry = self._packed(record)
            self._emitter.put(tag, entry)
        except RecursionError:
            raise
        except OwnRecord:
            _log_elsewhere(record)
        except Exception:  # noqa: BLE001  as `logging` requires
            self.handleError(record)

    def setFormatter(self, fmt: logging.Formatter | None) -> None:  # noqa: N802  its name in `logging`
        """Set a formatter. A default one of `logging` is ignored: `basicConfig` sets it, and it flattens records."""
        is_default = type(fmt) is logging.Formatter and fmt._fmt in _DEFAULT_FORMATS
        super().setFormatter(None if is_default else fmt)

    def flush(self) -> None:
        """Wait up to 1 second until everything is on the hub's disk. Do not wait if the hub is away."""
        self._emitter.flush(CLOSE_TIMEOUT_S)

    def close(self) -> None:
        """Flush and close. A later record opens the handler again, as it does a log file."""
        self._emitter.close(CLOSE_TIMEOUT_S)
        super().close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.producer.path} ({logging.getLevelName(self.level)})>"

    def _packed(self, record: logging.LogRecord) -> tuple[bytes, bytes]:
        """Return the tag and the entry of *record*. Most records take this short way; the other one is `_pack_any`."""
        try:
            attributes = record.__dict__
            created, message, args, thread, exc_info, exc_text, stack_info = _get(attributes)
            if exc_info or exc_text or stack_info or type(message) is not str or self.formatter is not None:
                return self._pack_any(record)
            place = self._places[key_of(attributes)]
            fields = {"message": record.getMessage() if args else message, "thread": thread}
            _check_others(attributes)
            count, names = place.extra
            try:
                for name in names:
                    fields[name] = attributes[name]
            except KeyError:
                count = 0
            if len(attributes) != count:  # its extra fields are not those of the last record
                names = _extra_names(attributes)
                if not _SPECIAL.isdisjoint(names):
                    return self._pack_any(record)
                fields.update((name, attributes[name]) for name in names)
                place.extra = len(attributes), names
            if (_MAY_HAVE_TASK or "asyncio" in sys.modules) and (task := _task_name(record)) is not None:
                fields["task"] = task
            rest = pack_any_depth(fields)
            if len(rest) > RECORD_NESTING_MAX:
                check_depth(fields, rest)
            header = rest[0] + place.pairs
            if header > _LARGEST_FIXMAP:
                return self._pack_any(record)
            seconds = int(created)  # the time as in `_pack_any`
            start = _START.pack(b"\x92\xd7\0", seconds, int((created - seconds) * NS), header)
            return place.tag, start + place.packed + rest[1:]
        except Exception:  # noqa: BLE001  for example a value that msgpack cannot hold
            return self._pack_any(record)

    def _pack_any(self, record: logging.LogRecord) -> tuple[bytes, bytes]:
        """Return the tag and the entry of *record*, whatever it holds. Raises OwnRecord."""
        created = record.created
        seconds = int(created)
        time_ns = seconds * NS + int((created - seconds) * NS)  # exact for the float; created * NS would round
        return self._places.tag_of(record.name), pack_whatever(self._fields(record), time_ns)

    def _fields(self, record: logging.LogRecord) -> dict[Any, Any]:
        attributes = record.__dict__
        message, args, exc_info = record.msg, record.args, record.exc_info
        fields: dict[Any, Any] = {
            **level_of(record.levelno, record.levelname),
            "message": message,
            "logger": record.name,
            "pathname": record.pathname,
            "lineno": record.lineno,
            "func": record.funcName,
            "thread": record.threadName,
            "process": record.processName,
        }
        if type(message) is dict and not args and self.formatter is None:
            exc_info = _unfold(fields, record) or exc_info
        else:
            if args or type(message) is not str or self.formatter is not None:
                self._format(fields, record)
            if len(attributes) != _STANDARD_COUNT:
                _add_extra(fields, attributes)
        if (_MAY_HAVE_TASK or "asyncio" in sys.modules) and (task := _task_name(record)) is not None:
            fields["task"] = task
        if exc_info or record.exc_text:  # a formatter may have set the text
            _add_exception(fields, record, exceptions.exc_info_of(exc_info))
        if record.stack_info:
            fields["stack_info"] = record.stack_info
        return fields

    def _format(self, fields: dict[Any, Any], record: logging.LogRecord) -> None:
        try:
            fields["message"] = record.getMessage() if self.formatter is None else self.format(record)
        except RecursionError:
            raise
        except Exception:  # noqa: BLE001  usually a template whose arguments do not fit
            self.handleError(record)
            fields["message"], fields["args"] = safe_str(record.msg), record.args


def _log_elsewhere(record: logging.LogRecord) -> bool:
    """
    Leave *record* to the other handlers of the application, or write it to standard error if there are none. Returns
    False.
    """
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None:
        if any(not isinstance(handler, HubHandler) for handler in logger.handlers):
            return False
        logger = logger.parent if logger.propagate else None
    if logging.lastResort is not None and record.levelno >= logging.lastResort.level:
        logging.lastResort.handle(record)
    return False


def _add_extra(fields: dict[Any, Any], attributes: dict[str, Any]) -> None:
    """Add the attributes of a record that are not of `logging`."""
    for name in _extra_names(attributes):
        if name not in STANDARD:
            _add(fields, name, attributes.get(name))


def _extra_names(attributes: dict[str, Any]) -> list[str]:
    """Return the names of the attributes that are not of `logging`, which usually follow those. Perhaps others, too."""
    names = list(attributes)  # in one step: several threads may use the record
    if names[_STANDARD_COUNT - 1] == _LAST_STANDARD:
        del names[:_STANDARD_COUNT]
    return names


def _add_all(fields: dict[Any, Any], attributes: Mapping[Any, Any], known: Container[Any] = ()) -> None:
    """Add the attributes that are not *known*."""
    for key in tuple(attributes):
        if key not in known:
            _add(fields, key, attributes.get(key))


def _add(fields: dict[Any, Any], key: Any, value: Any) -> None:
    """Add a field; rename it if its name is reserved or taken."""
    if key == "extra" and isinstance(value, dict):  # loguru passes bound fields like this
        _add_all(fields, value)
        return
    while key in RESERVED or key in fields:
        key = f"{key}_"
    fields[key] = value


def _unfold(fields: dict[Any, Any], record: logging.LogRecord) -> Any:
    """Add the fields of a dict message, as structlog's `wrap_for_formatter` passes it. Return its ``exc_info``."""
    message: Any = record.msg
    event = {key: value for key, value in list(message.items()) if key not in _SAME or value != fields[key]}
    if "message" in event:
        fields["message"] = event.pop("message")
    else:
        del fields["message"]
    exc_info = event.pop("exc_info", None)
    _add_all(fields, event)
    _add_all(fields, record.__dict__, STANDARD | _FROM_STRUCTLOG)
    return exc_info


def _add_exception(fields: dict[Any, Any], record: logging.LogRecord, exc_info: exceptions.ExcInfo | None) -> None:
    """Add the exception as data and as text. The text is the one that was already formatted, if any."""
    text = (record.exc_text or "").strip("\n")
    if exc_info is not None:
        fields["exc_info"] = exceptions.as_fields(exc_info)
        if record.exc_text and not text and type(fields.get("message")) is str:  # loguru puts it into the message
            fields["message"], head, rest = fields["message"].partition(_TRACEBACK)
            text = (head + rest).strip("\n")
    text = text or (exceptions.as_text(exc_info) if exc_info is not None else "")
    if text:
        fields["traceback"] = text


def _task_name(record: logging.LogRecord) -> str | None:
    """Return the name of the current asyncio task, if there is one."""
    name: str | None = None
    if sys.version_info >= (3, 12):
        name = record.taskName
    else:
        asyncio = sys.modules["asyncio"]
        running_loop = getattr(asyncio, "_get_running_loop", None)  # missing while another thread imports asyncio
        if running_loop is not None and running_loop() is not None and (task := asyncio.current_task()) is not None:
            name = task.get_name()
    return name
