"""`mpsr send`: sends messages. It starts fast, because it is used in shell loops."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import click

from hub.cli.options import SECONDS, complain, socket_option, usage_error
from producers import BacklogFull, BadRecord, NotAcknowledged, NotConnected, NotTrusted, Producer


@click.command()
@socket_option
@click.option("--tag", default="send", show_default=True, help="Tag of the messages.")
@click.option("--json", "as_json", is_flag=True, help="Each message is a JSON object, which becomes the record.")
@click.option("-F", "fields", multiple=True, metavar="KEY=VALUE", help="Add a field to each record. Repeatable.")
@click.option(
    "--timeout",
    type=SECONDS,
    default="10",
    show_default=True,
    metavar="S",
    help="Give up after S seconds without an answer.",
)
@click.argument("message", nargs=-1)
def send(
    socket: str | None, tag: str, as_json: bool, fields: Sequence[str], timeout: float, message: Sequence[str]
) -> int:
    """Send each MESSAGE, or each line of standard input.

    Exit code 0 means that all messages are on the hub's disk.

    \b
    Examples:
      mpsr send --tag deploy -F version=1.2 "release is out"
      tail -F access.log | mpsr send --tag nginx
    """
    extra = dict(map(_field, fields))
    lines: Iterable[bytes] = map(os.fsencode, message) if message else _standard_input()
    failed = False
    producer = Producer(socket, tag=tag, spool=False)  # the exit code leaves unacknowledged messages to the caller
    try:
        for number, line in enumerate(lines, 1):
            fault = _send_line(producer, line, extra, as_json=as_json, timeout=timeout)
            if fault is not None:
                complain(f"message {number} was not sent: {fault}")
                failed = True
        _flush(producer, timeout)
    finally:
        with contextlib.suppress(NotAcknowledged):  # flushed, or an error is being raised already
            producer.close(timeout=0)
    return 1 if failed else 0


def _field(field: str) -> tuple[str, str]:
    key, equals, value = field.partition("=")
    if not equals or not key:
        raise usage_error(f"-F {field!r}: write it as KEY=VALUE")
    return key, value


def _standard_input() -> Iterator[bytes]:
    for line in sys.stdin.buffer:
        yield line.removesuffix(b"\n")


def _send_line(producer: Producer, line: bytes, extra: dict[str, str], *, as_json: bool, timeout: float) -> str | None:
    """Send one line; return why it cannot be sent, None if it was accepted."""
    from hub.wire.text import encode_record

    if not as_json and not extra:
        return _with_room(lambda wait_s: producer.send_packed(encode_record(line), timeout=wait_s), producer, timeout)
    record: Any = {"message": line.decode("utf-8", "replace")}
    if as_json:
        import msgspec

        try:
            record = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return f"not JSON: {error}"
        if not isinstance(record, dict):
            return "a JSON object is expected"
    return _with_room(lambda wait_s: producer.send({**record, **extra}, timeout=wait_s), producer, timeout)


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


def _flush(producer: Producer, timeout: float) -> None:
    """
    Wait for the acknowledgements. The wait goes on while some arrive within each *timeout*.

    Raises NotAcknowledged, also if a message was dropped. Raises NotTrusted at once, because waiting cannot help then.
    """
    left, dropped = producer.pending, 0
    wait_s = timeout if not left or _is_connected(producer, timeout) else 0.0
    while True:
        try:
            producer.flush(wait_s)
        except NotAcknowledged as late:
            dropped += late.dropped
            if late.last_error or late.count >= left:
                raise NotAcknowledged(late.count, late.last_error, dropped) from None
            left = late.count
        else:
            break
    if dropped:
        raise NotAcknowledged(0, "", dropped)


def _is_connected(producer: Producer, timeout: float) -> bool:
    """Return whether the hub accepts a connection within *timeout*. Raises NotTrusted."""
    try:
        producer.connect(timeout)
    except NotTrusted:
        raise
    except NotConnected:
        return False
    return True
