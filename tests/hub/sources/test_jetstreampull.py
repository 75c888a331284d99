"""hub.sources.jetstreampull: requests to a pull consumer, against a server made of statuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from hub.sources.jetstreampull import BYTES_MAX, EXPIRES_S, GRACE_S, MESSAGES_MAX, PAUSE_S, ConsumerGone, Pull


class Sent:
    """A message, or a status if it has no reply subject."""

    def __init__(self, reply: str = "", *, status: str = "", description: str = "", subject: str = "s") -> None:
        self.subject, self.reply, self.data = subject, reply, b""
        self.headers: dict[str, str] | None = {"Status": status, "Description": description} if status else None


class Rig:
    """A pull at a clock that stands still."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self.now = 100.0
        self.requests: list[dict[str, Any]] = []
        self.pull = Pull(self._send, lambda: self.now)

    async def _send(self, request: bytes, number: int) -> None:
        self.requests.append(json.loads(request))
        assert number == len(self.requests)

    def end(self, status: str, description: str = "", *, number: int | None = None) -> None:
        """Give it a status for a request, by default the last one."""
        number = len(self.requests) if number is None else number
        self.pull.receive(Sent(status=status, description=description, subject=f"inbox.{number}"))

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run *work* on the loop of the pull."""
        self._runner.run(work)

    def next(self) -> list[Any]:
        """Return what `next` returns without waiting."""
        return self._runner.run(self.pull.next(0))


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A pull that has sent nothing."""
    with asyncio.Runner() as runner:
        yield Rig(runner)


FULL = {"batch": MESSAGES_MAX, "expires": int(EXPIRES_S * 1e9), "max_bytes": BYTES_MAX}


def test_one_request_at_a_time(rig: Rig) -> None:
    """Another one is sent when the first has brought all that it asked for."""
    assert rig.next() == []
    assert rig.next() == []
    assert rig.requests == [FULL]
    messages = [Sent("r") for _ in range(MESSAGES_MAX)]
    for message in messages[1:]:
        rig.pull.receive(message)
    assert rig.next() == messages[1:]
    assert rig.next() == []
    assert len(rig.requests) == 1
    rig.pull.receive(messages[0])
    assert rig.next() == messages[:1]
    assert rig.next() == []
    assert len(rig.requests) == 2


@pytest.mark.parametrize(
    "status",
    [("404", "No Messages"), ("408", "Request Timeout"), ("409", "Batch Completed"), ("409", "Leadership Change")],
    ids=str,
)
def test_a_request_that_has_ended_is_followed_by_another(rig: Rig, status: tuple[str, str]) -> None:
    """At once."""
    rig.next()
    rig.end("100", "Idle Heartbeat")
    rig.next()
    assert len(rig.requests) == 1
    rig.end(*status)
    rig.next()
    assert rig.requests == [FULL, FULL]


def test_a_request_that_was_refused_is_sent_again_later(rig: Rig) -> None:
    """Not in a loop."""
    rig.next()
    rig.end("409", "Exceeded MaxWaiting")
    rig.next()
    assert len(rig.requests) == 1
    rig.now += PAUSE_S
    rig.next()
    assert len(rig.requests) == 2


def test_a_request_that_the_server_forgot_ends_by_the_clock(rig: Rig) -> None:
    """After a connection was made again, nothing of it comes."""
    rig.next()
    rig.now += EXPIRES_S + GRACE_S - 0.1
    rig.next()
    assert len(rig.requests) == 1
    rig.now += 0.2
    rig.next()
    assert len(rig.requests) == 2


def test_a_message_that_is_too_large_for_a_request_is_asked_for_by_itself(rig: Rig) -> None:
    """Only if the request has brought nothing: otherwise it was merely full."""
    rig.next()
    full = "409", "Message Size Exceeds MaxBytes"
    rig.pull.receive(Sent("r"))
    rig.end(*full)
    rig.next()
    rig.next()
    rig.end(*full)
    rig.next()
    rig.pull.receive(Sent("large"))
    assert [message.reply for message in rig.next()] == ["large"]
    rig.next()
    assert rig.requests == [FULL, FULL, {"batch": 1, "expires": FULL["expires"]}, FULL]


@pytest.mark.parametrize("status", [("409", "Consumer Deleted"), ("404", "Consumer Not Found"), ("503", "")], ids=str)
def test_a_consumer_that_is_gone(rig: Rig, status: tuple[str, str]) -> None:
    """What has come before is returned first."""
    rig.next()
    rig.pull.receive(Sent("r"))
    rig.end(*status)
    assert len(rig.next()) == 1
    with pytest.raises(ConsumerGone):
        rig.next()


def test_a_status_in_a_message_is_none(rig: Rig) -> None:
    """A publisher may write any header: what has a reply subject is a message."""
    rig.next()
    forged = Sent("r", status="409", description="Consumer Deleted")
    rig.pull.receive(forged)
    assert rig.next() == [forged]
    assert rig.next() == []


def test_a_stop_ends_the_wait(rig: Rig) -> None:
    """What has come is returned, and nothing is asked for."""

    async def main() -> None:
        waiting = asyncio.create_task(rig.pull.next(60))
        await asyncio.sleep(0)
        rig.pull.stop()
        assert await waiting == []
        rig.pull.receive(Sent("r"))
        assert len(await rig.pull.next(60)) == 1
        assert await rig.pull.next(60) == []

    rig.run(main())
    assert len(rig.requests) == 1


def test_the_end_of_an_earlier_request_is_not_that_of_the_next(rig: Rig) -> None:
    """The server says that a request is complete after its last message."""
    rig.next()
    for _ in range(MESSAGES_MAX):
        rig.pull.receive(Sent("r"))
    rig.next()
    rig.next()
    assert len(rig.requests) == 2
    rig.end("409", "Batch Completed", number=1)
    rig.next()
    assert len(rig.requests) == 2
    rig.end("409", "Batch Completed")
    rig.next()
    assert len(rig.requests) == 3
