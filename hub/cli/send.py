"""`mpsr send`: sends messages. It starts fast, because it is used in shell loops."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import click

from hub.cli.options import complete_level, complete_tag, socket_option, timeout_option, usage_error
from hub.cli.output import advice, complain, is_forbidden
from producers import BacklogFull, BadRecord, NotAcknowledged, NotConnected, NotTrusted, Producer

NOTICE_S = 1.0
"""How long the command waits for the hub before it reports that it waits."""
ATTEMPT_S = 0.1
"""
How long connecting may take where the command does not wait for a hub. It takes less than a millisecond, or fails at
once.
"""


@click.command()
@socket_option
@click.option(
    "-t", "--tag", default="send", show_default=True, shell_complete=complete_tag, help="Tag of the messages."
)
@click.option(
    "--json", "as_json", is_flag=True,
    help="Each message is a JSON object, which becomes the record. Its tag and time become those of the message.",
)  # fmt: skip
@click.option(
    "-F", "fields", multiple=True, metavar="KEY=VALUE",
    help="Add a field to each record: 5, 1.5, true, false and null are values, everything else and '\"5\"' is text. "
    "Repeatable.",
)  # fmt: skip
@click.option(
    "-p",
    "--level",
    metavar="L",
    shell_complete=complete_level,
    help="Level of each record: info, warning, error, ...; also FACILITY.LEVEL.",
)
@click.option(
    "--spool",
    is_flag=True,
    help="Without a hub, leave the messages in files beside its socket, which the next hub reads. For cron.",
)
@timeout_option
@click.argument("message", nargs=-1)
def send(
    socket: str | None,
    tag: str,
    as_json: bool,
    fields: Sequence[str],
    level: str | None,
    spool: bool,
    timeout: float,
    message: Sequence[str],
) -> int:
    """Send each MESSAGE, or each line of standard input.

    A single - also means standard input. Exit code 0 means that all messages are on the hub's disk or, with
    --spool, in the spool.

    \b
    Examples:
      mpsr send --tag deploy -F version=1.2 "release is out"
      tail -F access.log | mpsr send --tag nginx
    """
    extra = _extra(fields, level, has_text=not as_json)
    lines: Iterable[bytes] = map(os.fsencode, message) if message not in ((), ("-",)) else _standard_input()
    failed = False
    if spool:
        _silence()
    producer = Producer(socket, tag=tag, spool=spool)  # without a spool, the exit code leaves them to the caller
    try:
        for number, line in enumerate(lines, 1):
            fault = _send_line(producer, line, extra, as_json=as_json, timeout=timeout)
            if fault is not None:
                complain(f"message {number} was not sent: {fault}")
                failed = True
        if spool:
            _leave(producer, timeout)
        else:
            _flush(producer, timeout)
    except KeyboardInterrupt:
        if pending := producer.pending:
            complain(NotAcknowledged(pending, "interrupted"))
        return 130
    finally:
        with contextlib.suppress(NotAcknowledged):  # flushed, or an error is being raised already
            producer.close(timeout=0)
    return 1 if failed else 0


def _extra(fields: Sequence[str], level: str | None, *, has_text: bool) -> dict[str, Any]:
    """Return the fields of every record, from -F and -p, each given once. With *has_text*, `message` is the text."""
    given = list(map(_field, fields))
    if level is not None:
        from hub.query.level import parse_priority

        try:
            given += [*parse_priority(level).items()]
        except ValueError as error:
            raise usage_error(f"-p: {error}") from None
    extra: dict[str, Any] = {}
    for key, value in given:
        if key in extra:
            raise usage_error(f"the field {key!r} is given twice")
        if key == "message" and has_text:
            raise usage_error("-F message=: the text is the field `message`; give it as MESSAGE, or use --json")
        extra[key] = value
    return extra


def _field(field: str) -> tuple[str, Any]:
    key, equals, text = field.partition("=")
    if not equals or not key:
        raise usage_error(f"-F {field!r}: write it as KEY=VALUE")
    return key, _value(text)


def _value(text: str) -> str | int | float | bool | None:
    """Return the value of *text*. It is a number only if it would be written in the same way: 1.10 and 007 are text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1]
    for kind, shape in ((int, "{:d}"), (float, "{!r}")):
        try:
            number = kind(text)
        except ValueError:
            continue
        if shape.format(number) == text and -(2**63) <= number < 2**64:
            return number
    return text


_CONSTANTS = {"true": True, "false": False, "null": None}


def _standard_input() -> Iterator[bytes]:
    if sys.stdin is None:  # `mpsr send <&-`
        raise usage_error("standard input is closed: give a MESSAGE, or lines to read")
    try:
        for line in sys.stdin.buffer:
            yield line.removesuffix(b"\n").removesuffix(b"\r")
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard input") from error


def _send_line(producer: Producer, line: bytes, extra: dict[str, Any], *, as_json: bool, timeout: float) -> str | None:
    """Send one line; return why it cannot be sent, None if it was accepted."""
    from hub.wire.text import encode_record
    from producers.record import pack_entry

    tag, time_ns = None, None
    if as_json:
        record, tag, time_ns = _parse(line)
        if isinstance(record, str):
            return record
    else:
        record = {"message": os.fsdecode(line)}
    try:
        packed = _pack({**record, **extra}) if as_json or extra else encode_record(line)
    except (ValueError, RecursionError) as error:  # nested too deeply
        return f"it cannot be encoded: {error}"
    return _with_room(
        lambda wait_s: producer.send_entry(pack_entry(packed, time_ns), tag=tag, timeout=wait_s), producer, timeout
    )


def _parse(line: bytes) -> tuple[dict[str, Any] | str, str | None, int | None]:
    """
    Return record, tag and time of a JSON object, as the hub itself reads such a line; or the reason why the line is not
    one.
    """
    import msgspec

    from hub.entries import RECORD_NESTING_MAX, TOO_DEEP, is_value_deeper
    from hub.wire.jsonlines import take_tag, take_time

    try:
        record = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"not JSON: {error}", None, None
    except RecursionError:  # always with more levels than a record may have
        return TOO_DEEP, None, None
    if not isinstance(record, dict):
        return "a JSON object is expected", None, None
    if is_value_deeper(record, RECORD_NESTING_MAX):
        return TOO_DEEP, None, None
    return record, take_tag(record), take_time(record)


def _pack(record: dict[str, Any]) -> bytes:
    """Return *record* in msgpack. Text that is not UTF-8 is kept as it is, as in a message without fields."""
    import msgpack

    packed: bytes = msgpack.packb(record, default=str, unicode_errors="surrogateescape")
    return packed


def _with_room(hand_over: Callable[[float], None], producer: Producer, timeout: float) -> str | None:
    """
    Send one message, waiting for room if necessary; return why it cannot be sent, None if it was accepted.

    Raises BacklogFull or NotConnected. Raises NotTrusted at once, because waiting cannot make room then.
    """
    try:
        try:
            hand_over(0.0)
        except BacklogFull:
            producer.connect(timeout)
            hand_over(timeout)
    except BadRecord as error:
        return str(error)
    return None


def _silence() -> None:
    """Drop the producer's warning that there is no spool: `_leave` reports it."""
    import logging

    logging.getLogger("mpsr.producers").setLevel(logging.CRITICAL)


def _leave(producer: Producer, timeout: float) -> None:
    """
    Wait for the answers of a hub. If it is away, all messages are in the spool, or it is an error at once.

    Raises NotAcknowledged or NotTrusted.
    """
    fault = producer.stats()["spool_fault"]
    if fault:
        try:
            producer.connect(min(timeout, ATTEMPT_S))
        except NotTrusted:
            raise
        except NotConnected:
            timeout = 0.0 if producer.stats()["last_error"] else timeout  # empty: there was no attempt yet
    try:
        producer.close(timeout)
    except NotAcknowledged as late:
        reason = f"{late.last_error}, and there is no spool: {fault}" if fault else late.last_error
        raise NotAcknowledged(late.count, reason, late.dropped) from None


def _flush(producer: Producer, timeout: float) -> None:
    """
    Wait for the acknowledgements. The wait goes on while some arrive within each *timeout*.

    Raises NotAcknowledged, also if a message was dropped. Raises NotTrusted at once, because waiting cannot help then.
    """
    left, dropped = producer.pending, 0
    has_notice = timeout > NOTICE_S
    waits_s = (NOTICE_S, timeout - NOTICE_S) if has_notice else (timeout,)
    if left and not _is_connected(producer, timeout):
        has_notice, waits_s = False, (0.0,)
    for wait_s in itertools.chain(waits_s, itertools.repeat(timeout)):
        try:
            producer.flush(wait_s)
        except NotAcknowledged as late:
            dropped += late.dropped
            if has_notice:
                has_notice = False
                if late.last_error:
                    complain(f"waiting for the hub: {late.last_error}{_hint(late.last_error)}")
                continue
            if late.last_error or late.count >= left:
                raise NotAcknowledged(late.count, _why(late.last_error, timeout), dropped) from None
            left = late.count
        else:
            break
    if dropped:
        raise NotAcknowledged(0, "", dropped)


def _is_connected(producer: Producer, timeout: float) -> bool:
    """Return whether the hub accepts a connection within *timeout*. Raises NotTrusted."""
    waits_s = (NOTICE_S, timeout - NOTICE_S) if timeout > NOTICE_S else (timeout,)
    for step, wait_s in enumerate(waits_s, 1):
        try:
            producer.connect(wait_s)
        except NotTrusted:
            raise
        except NotConnected as error:
            if is_forbidden(error.reason):  # waiting does not help
                break
            if step < len(waits_s):
                complain(f"waiting {timeout:g} s for the hub: {error.reason}{advice(error.reason)}")
        else:
            return True
    return False


def _why(reason: str, timeout: float) -> str:
    """Return *reason*, or why a hub that is there may not have acknowledged; with a remedy, unless one was named."""
    if not reason:
        remedy = "is its disk full? see its log" if timeout > NOTICE_S else "allow more with --timeout"
        return f"the hub did not answer within {timeout:g} s; {remedy}"
    return reason + advice(reason) if timeout <= NOTICE_S or is_forbidden(reason) else reason


def _hint(reason: str) -> str:
    """Return the likely cause of a connection that the hub closes again and again."""
    return (
        " (does it refuse this user? see send_allow and send_deny)" if reason.endswith("closed the connection") else ""
    )
