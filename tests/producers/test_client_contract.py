"""What holds for `Client` and for `AsyncClient` alike: calls, streams, subscriptions, and hubs that come and go."""

from __future__ import annotations

import concurrent.futures
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from hub.trust import Untrusted
from producers import (
    AnswerLost,
    ClientClosed,
    CommandFailed,
    NotConnected,
    NotTrusted,
    async_wire,
    wire,
)
from producers.async_stream import AHEAD_BYTES
from producers.exchange import CALLS_MAX
from tests.producers.callers import CALLERS, END, Caller, MakeCaller, Talk
from tests.producers.fakehub import FakeHub
from tests.producers.helpers import SENT_S
from tests.support import PATIENCE_S, HubProcess

pytestmark = pytest.mark.usefixtures("leaves_nothing")
STOPS = -32003


@pytest.fixture(params=CALLERS)
def make(request: pytest.FixtureRequest, leaves_nothing: None) -> Iterator[MakeCaller]:
    """Make a client of each kind in turn; nothing of it may be left."""
    with CALLERS[request.param]() as make:
        yield make


@pytest.fixture
def caller(make: MakeCaller, fake: FakeHub) -> Iterator[Caller]:
    """A client of each kind in turn, whose hub is the test."""
    caller = make(fake.path)
    yield caller
    caller.close()


def error_of(future: Future[Any]) -> BaseException:
    """Return what a call raises that was begun."""
    error = future.exception(PATIENCE_S)
    assert error is not None
    return error


# Calls.


def test_a_real_hub(make: MakeCaller, hub: HubProcess) -> None:
    """Results and errors of a hub arrive; what JSON cannot hold is a TypeError, and the client goes on."""
    caller = make(hub.socket)
    assert caller.call("ping") == "pong"
    assert caller.call("stats")["pid"] == hub.process.pid
    with pytest.raises(CommandFailed, match="no method 'nonsense'") as failed:
        caller.call("nonsense", {"a": [1]})
    assert failed.value.code == -32601
    assert isinstance(failed.value.data, dict)
    assert "ping" in failed.value.data["methods"]
    with pytest.raises(TypeError):
        caller.call("ping", [object()])
    assert caller.call("ping", timeout=PATIENCE_S) == "pong"
    caller.close()


def test_calls_share_a_connection(caller: Caller, fake: FakeHub) -> None:
    """Calls that are under way together have one connection, and each gets its own reply, in any order."""
    first = caller.begin("first", [1])
    talk = Talk(fake)
    one = talk.request()
    second = caller.begin("second", {"a": None})
    two = talk.request()
    assert (one["method"], one["params"], two["method"], two["params"]) == ("first", [1], "second", {"a": None})
    talk.reply(two, "2")
    assert second.result(PATIENCE_S) == "2"
    talk.reply({"id": "a stranger's"}, 0)
    talk.reply({"id": 999}, 0)
    talk.reply(one, "1")
    assert first.result(PATIENCE_S) == "1"


def test_a_reply_for_another(caller: Caller, fake: FakeHub) -> None:
    """When the call that reads for all has its reply, another one reads on."""
    first = caller.begin("first")
    talk = Talk(fake)
    one = talk.request()
    second = caller.begin("second")
    two = talk.request()
    talk.reply(one, "1")
    assert first.result(PATIENCE_S) == "1"
    talk.reply(two, "2")
    assert second.result(PATIENCE_S) == "2"


def test_a_limit_while_another_reads(caller: Caller, fake: FakeHub) -> None:
    """A call whose time is over does not wait for the one that reads for all."""
    first = caller.begin("first")
    talk = Talk(fake)
    one = talk.request()
    second = caller.begin("second", timeout=SENT_S)
    talk.request()
    assert isinstance(error_of(second), AnswerLost)
    assert talk.request()["method"] == "cancel"
    talk.reply(one, "1")
    assert first.result(PATIENCE_S) == "1"


def test_no_more_calls_than_a_hub_runs(caller: Caller, fake: FakeHub) -> None:
    """A call more than a hub runs at once for a connection waits for its turn, and one that waits too long says so."""
    calls = [caller.begin(f"m{number}") for number in range(CALLS_MAX)]
    talk = Talk(fake)
    requests = {request["method"]: request for request in (talk.request() for _ in calls)}
    assert len(requests) == CALLS_MAX
    late = error_of(caller.begin("late", timeout=0.05))
    assert (type(late), str(late)) == (NotConnected, f"no hub answers at {fake.path}: no answer within 0.05 s")
    more = caller.begin("more")
    talk.reply(requests["m7"], 7)
    assert calls[7].result(PATIENCE_S) == 7
    request = talk.request()
    assert request["method"] == "more"
    talk.reply(request, "more")
    assert more.result(PATIENCE_S) == "more"
    for number, call in enumerate(calls):
        if number != 7:
            talk.reply(requests[f"m{number}"], number)
            assert call.result(PATIENCE_S) == number


def test_a_hub_that_is_away_is_waited_for(make: MakeCaller, folder: Path) -> None:
    """A call waits for a hub, until its time is over; then the error says why there is none."""
    path = str(folder / "s")
    caller = make(path)
    with pytest.raises(NotConnected, match=f"no hub at {path}") as away:
        caller.call("ping", timeout=0.1)
    assert type(away.value) is NotConnected
    call = caller.begin("ping")
    with FakeHub(path) as fake:
        talk = Talk(fake)
        talk.reply(talk.request(), "pong")
        assert call.result(PATIENCE_S) == "pong"
        caller.close()


def test_a_hub_that_restarts(caller: Caller, fake: FakeHub) -> None:
    """A connection that the hub closed between two calls is replaced, and no call notices."""
    for number in range(3):
        call = caller.begin("m")
        talk = Talk(fake)
        talk.reply(talk.request(), number)
        assert call.result(PATIENCE_S) == number
        talk.sock.close()


BREAKS = {
    "closed": (lambda talk: talk.sock.close(), "the hub closed the connection without an answer"),
    "half a reply": (lambda talk: (talk.sock.sendall(b'{"jsonrpc"'), talk.sock.close()), "closed the connection"),
    "garbage": (lambda talk: talk.sock.sendall(b"HTTP/1.1 400 Bad Request\n"), "the answer is no JSON-RPC reply"),
}


@pytest.mark.parametrize(("breaks", "reason"), BREAKS.values(), ids=BREAKS)
def test_an_answer_that_is_lost(caller: Caller, fake: FakeHub, breaks: Any, reason: str) -> None:
    """If the connection breaks under a call that was sent, it may have been carried out; the error says so."""
    call = caller.begin("resize")
    talk = Talk(fake)
    talk.request()
    breaks(talk)
    lost = error_of(call)
    assert isinstance(lost, AnswerLost)
    assert reason in lost.reason
    assert str(lost).endswith("; 'resize' was sent, and may have been carried out")
    again = caller.begin("m")
    talk = Talk(fake)
    talk.reply(talk.request(), "on a new connection")
    assert again.result(PATIENCE_S) == "on a new connection"


def test_an_idempotent_call_is_sent_again(caller: Caller, fake: FakeHub) -> None:
    """A call that may be carried out twice is sent again until it is answered, as long as there is time."""
    call = caller.begin("m", is_idempotent=True)
    for _ in range(3):
        talk = Talk(fake)
        assert talk.request()["method"] == "m"
        talk.sock.close()
    talk = Talk(fake)
    talk.reply(talk.request(), "at last")
    assert call.result(PATIENCE_S) == "at last"


def test_an_answer_that_is_late(caller: Caller, fake: FakeHub) -> None:
    """A call that is given up is cancelled at the hub. Its reply, if it comes, is nobody's; the connection stays."""
    call = caller.begin("slow", timeout=SENT_S)
    talk = Talk(fake)
    request = talk.request()
    lost = error_of(call)
    assert isinstance(lost, AnswerLost)
    assert lost.reason == f"no answer within {SENT_S:g} s"
    assert talk.request() == {"jsonrpc": "2.0", "method": "cancel", "params": {"id": request["id"]}}
    following = caller.begin("m")
    talk.reply(request, "late")
    talk.reply(talk.request(), "in time")
    assert following.result(PATIENCE_S) == "in time"


def test_a_call_of_a_stream(caller: Caller, fake: FakeHub) -> None:
    """To call a method that streams is an error, and the method is cancelled."""
    call = caller.begin("tail")
    talk = Talk(fake)
    request = talk.request()
    talk.value(request, 1)
    failed = error_of(call)
    assert isinstance(failed, CommandFailed)
    assert failed.message == "this method streams: call it with stream()"
    assert talk.request()["method"] == "cancel"


def test_a_hub_that_is_not_trusted(caller: Caller, fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub of another user is not waited for, and nothing is sent to it: not by a call, not by a stream."""

    def connect(path: str) -> socket.socket:
        raise Untrusted(path, "belongs to user 7")

    for module in (wire, async_wire):
        monkeypatch.setattr(module, "connected_socket", connect)
    assert isinstance(error_of(caller.begin("m")), NotTrusted)
    assert isinstance(error_of(caller.begin_stream("stream", "m")), NotTrusted)


def test_closing(caller: Caller, fake: FakeHub) -> None:
    """After `close`, what is under way ends with ClientClosed, streams end, and nothing can be begun."""
    call = caller.begin("m")
    talk = Talk(fake)
    talk.request()
    begun = caller.begin_stream("stream", "s")
    Talk(fake).begin()
    stream = begun.result(PATIENCE_S)
    following = stream.begin_next()
    caller.close()
    assert isinstance(error_of(call), ClientClosed)
    assert following.result(PATIENCE_S) is END
    assert stream.next() is END
    for refused in (caller.begin("m"), caller.begin_stream("stream", "s")):
        assert isinstance(error_of(refused), ClientClosed)
    caller.close()


def test_closing_while_the_hub_is_away(make: MakeCaller, folder: Path) -> None:
    """A call that waits for a hub ends when the client is closed."""
    caller = make(str(folder / "s"))
    with pytest.raises(NotConnected):
        caller.call("m", timeout=0.3)  # by now it waits for a while between two attempts
    call = caller.begin("m")
    other = caller.begin("m")
    caller.close()
    assert isinstance(error_of(call), ClientClosed)
    assert isinstance(error_of(other), ClientClosed)


# Streams.


def test_values_and_a_result(caller: Caller, fake: FakeHub) -> None:
    """The values of a stream arrive in order; then it ends, with what the command returned."""
    begun = caller.begin_stream("stream", "count", [3])
    talk = Talk(fake)
    request = talk.begin()
    assert (request["method"], request["params"]) == ("count", [3])
    stream = begun.result(PATIENCE_S)
    assert stream.stream.result is None
    talk.send(method="stream", params={"id": "another's", "value": 0})
    talk.reply({"id": "another's"}, 0)
    talk.value(request, 1, None, {"a": 2})
    assert stream.some(3) == [1, None, {"a": 2}]
    talk.reply(request, "all")
    assert stream.next() is END
    assert stream.next() is END
    assert stream.stream.result == "all"
    assert talk.is_closed()


def test_a_stream_that_fails(caller: Caller, fake: FakeHub) -> None:
    """An error of the command is raised after the values before it; also if the command fails at once."""
    begun = caller.begin_stream("stream", "count")
    talk = Talk(fake)
    request = talk.begin()
    talk.value(request, 1)
    talk.fail(request, -5, "broken")
    stream = begun.result(PATIENCE_S)
    assert stream.next() == 1
    for _ in range(2):
        failed = error_of(stream.begin_next())
        assert isinstance(failed, CommandFailed)
        assert (failed.code, failed.message, failed.data) == (-5, "broken", [1])
    begun = caller.begin_stream("stream", "absent")
    talk = Talk(fake)
    talk.fail(talk.request(), -32601)
    assert isinstance(error_of(begun.result(PATIENCE_S).begin_next()), CommandFailed)


def test_closing_a_stream_cancels_it(caller: Caller, fake: FakeHub) -> None:
    """A stream that is closed ends its connection; what had arrived is not returned any more, and calls go on."""
    begun = caller.begin_stream("stream", "count")
    talk = Talk(fake)
    request = talk.begin()
    stream = begun.result(PATIENCE_S)
    talk.value(request, 1, 2)
    assert stream.next() == 1
    stream.close()
    assert stream.next() is END
    assert talk.is_closed()
    call = caller.begin("m")
    talk = Talk(fake)
    talk.reply(talk.request(), 1)
    assert call.result(PATIENCE_S) == 1


def test_a_stream_that_cannot_go_on(caller: Caller, fake: FakeHub) -> None:
    """If the connection breaks, a stream of which nobody knows where it was ends with AnswerLost, after its values."""
    begun = caller.begin_stream("stream", "count")
    talk = Talk(fake)
    request = talk.begin()
    talk.value(request, 1)
    talk.sock.close()
    stream = begun.result(PATIENCE_S)
    assert stream.next() == 1
    lost = error_of(stream.begin_next())
    assert isinstance(lost, AnswerLost)
    assert lost.method == "count"
    begun = caller.begin_stream("stream", "count")
    talk = Talk(fake)
    talk.request()
    talk.sock.close()  # it may have begun, so it is not asked for again
    assert isinstance(error_of(begun.result(PATIENCE_S).begin_next()), AnswerLost)


def test_a_stream_of_a_hub_that_is_away(make: MakeCaller, folder: Path) -> None:
    """A stream waits for a hub to begin, until its time is over."""
    path = str(folder / "s")
    caller = make(path)
    away = error_of(caller.begin_stream("stream", "tail", timeout=0.1))
    assert (type(away), str(away)) == (NotConnected, f"no hub answers at {path}: no hub at {path}")
    begun = caller.begin_stream("stream", "count")
    with FakeHub(path) as fake:
        talk = Talk(fake)
        talk.begin()
        begun.result(PATIENCE_S)
        caller.close()


def test_a_hub_that_does_not_begin(caller: Caller, fake: FakeHub) -> None:
    """A hub that accepts a stream and does not answer is reported in time."""
    late = error_of(caller.begin_stream("stream", "tail", timeout=0.1))
    assert (type(late), str(late)) == (NotConnected, f"no hub answers at {fake.path}: no answer within 0.1 s")


def test_a_tail_goes_on(caller: Caller, fake: FakeHub) -> None:
    """After a break, a tail asks for what comes after the last message that has arrived, with the same filters."""
    begun = caller.begin_stream("stream", "tail", {"tag": "app.*", "last": 5})
    talk = Talk(fake)
    request = talk.begin()
    assert request["params"] == {"tag": "app.*", "last": 5}
    talk.value(request, {"messages": [], "next": 7})
    stream = begun.result(PATIENCE_S)
    assert stream.next() == {"messages": [], "next": 7}
    talk.sock.close()
    following = stream.begin_next()
    talk = Talk(fake)
    request = talk.begin()
    assert request["params"] == {"tag": "app.*", "after": 7}
    talk.value(request, {"messages": [{"sequence": 9}], "next": 9}, {"missed": 2, "next": 12})
    assert following.result(PATIENCE_S)["next"] == 9
    talk.fail(request, STOPS, "the hub ends this connection")
    assert stream.next() == {"missed": 2, "next": 12}
    following = stream.begin_next()
    talk = Talk(fake)
    talk.request()
    talk.sock.close()  # before it has begun
    talk = Talk(fake)
    request = talk.begin()
    assert request["params"] == {"tag": "app.*", "after": 12}
    talk.value(request, {"sequence": 13})
    assert following.result(PATIENCE_S) == {"sequence": 13}
    following = stream.begin_next()
    talk.fail(request, -32001, "not allowed any longer")
    assert isinstance(error_of(following), CommandFailed)


def test_a_tail_whose_place_is_not_known(caller: Caller, fake: FakeHub) -> None:
    """
    A tail is made when the hub has said where it begins. A hub that is slow to say so is waited for a second; then the
    tail cannot go on if the connection breaks.
    """
    begun = caller.begin_stream("stream", "tail")
    talk = Talk(fake)
    request = talk.begin()
    with pytest.raises(TimeoutError):
        begun.result(0.1)
    talk.value(request, {"messages": [], "next": 3})
    stream = begun.result(PATIENCE_S)
    assert stream.next() == {"messages": [], "next": 3}
    begun = caller.begin_stream("stream", "tail")
    talk = Talk(fake)
    talk.begin()
    stream = begun.result(PATIENCE_S)
    talk.sock.close()
    assert isinstance(error_of(stream.begin_next()), AnswerLost)
    begun = caller.begin_stream("stream", "tail")
    talk = Talk(fake)
    talk.begin()
    talk.sock.close()
    assert isinstance(error_of(begun.result(PATIENCE_S).begin_next()), AnswerLost)


def test_a_tail_whose_hub_becomes_another_users(caller: Caller, fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream does not go on with a hub that is not trusted."""
    begun = caller.begin_stream("stream", "tail", {"after": 1})
    talk = Talk(fake)
    talk.begin()
    stream = begun.result(PATIENCE_S)

    def connect(path: str) -> socket.socket:
        raise Untrusted(path, "belongs to user 7")

    for module in (wire, async_wire):
        monkeypatch.setattr(module, "connected_socket", connect)
    talk.sock.close()
    assert isinstance(error_of(stream.begin_next()), NotTrusted)


def test_a_subscription_is_renewed(caller: Caller, fake: FakeHub) -> None:
    """After a break a subscription begins anew, and its first event says since when events may be missing."""
    begun = caller.begin_stream("subscribe", "loss", "hub.*")
    talk = Talk(fake)
    request = talk.begin()
    assert (request["method"], request["params"]) == ("subscribe", {"events": ["loss", "hub.*"]})
    stream = begun.result(PATIENCE_S)
    event = {"event": "loss", "data": {}, "time": 1}
    talk.value(request, event)
    assert stream.next() == event
    talk.sock.close()
    following = stream.begin_next()
    talk = Talk(fake)
    talk.request()
    talk.sock.close()
    talk = Talk(fake)
    request = talk.begin()
    assert request["params"] == {"events": ["loss", "hub.*"]}
    missed = following.result(PATIENCE_S)
    assert (missed["event"], missed["data"]["count"]) == ("mpsr.missed", None)
    assert "the hub closed the connection" in missed["data"]["reason"]
    assert 0 < missed["data"]["since"] <= missed["time"]
    talk.value(request, event)
    assert stream.next() == event
    begun = caller.begin_stream("subscribe")
    assert "params" not in Talk(fake).begin()
    begun.result(PATIENCE_S)


def test_a_reader_that_is_slow(caller: Caller, fake: FakeHub) -> None:
    """What is not read stays with the hub: it cannot send much more than fits into the kernel's buffers."""
    begun = caller.begin_stream("stream", "count")
    talk = Talk(fake)
    request = talk.begin()
    stream = begun.result(PATIENCE_S)
    talk.sock.setblocking(False)
    line = b'{"jsonrpc":"2.0","method":"stream","params":{"id":%d,"value":"%s"}}\n' % (request["id"], b"x" * 50_000)
    sent = 0
    while sent < 100 * AHEAD_BYTES:
        talk.sock.settimeout(0.3)  # a client that reads on would have read by then
        try:
            talk.sock.sendall(line)
        except TimeoutError:
            break
        sent += len(line)
    assert sent < 50 * AHEAD_BYTES
    assert stream.next() == "x" * 50_000
    call = caller.begin("m")
    other = Talk(fake)
    other.reply(other.request(), "not held up")
    assert call.result(PATIENCE_S) == "not held up"


def test_one_reader_at_a_time(caller: Caller, fake: FakeHub) -> None:
    """To read a stream twice at once is an error, and the first reader gets the value."""
    begun = caller.begin_stream("stream", "count")
    talk = Talk(fake)
    request = talk.begin()
    stream = begun.result(PATIENCE_S)
    readers = [stream.begin_next(), stream.begin_next()]
    done, waiting = concurrent.futures.wait(readers, PATIENCE_S, concurrent.futures.FIRST_COMPLETED)
    (refused,), (reader,) = done, waiting
    with pytest.raises(RuntimeError, match="this stream is already being read"):
        refused.result()
    talk.value(request, 1)
    assert reader.result(PATIENCE_S) == 1
