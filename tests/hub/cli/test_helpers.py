"""Helpers of a search: the same results in the same order, whatever happens to a helper."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from hub.cli import helpers
from hub.cli.helpers import Helpers, shared
from hub.cli.output import Encoded, Lines, encode
from hub.cli.stored import InFiles
from hub.message import Message
from hub.query.query import Query
from hub.query.rendering import render_json
from producers import Producer
from tests.support import HubProcess, eventually

CALLER = os.getpid()


def named(item: int) -> Lines:
    """Return the process that does it, and what it does."""
    return [f"{os.getpid()}", f"item {item}"]


def here_fails(item: int) -> Lines:
    assert os.getpid() == CALLER, "not in a helper"
    return [f"item {item}"]


def texts(results: Iterator[Lines]) -> list[bytes]:
    return [encode(lines).data.splitlines()[-1] for lines in results]


EXPECTED = [b"item %d" % item for item in range(30)]


def test_results_have_the_order_of_the_items() -> None:
    """Each helper does its part, and all of them end."""
    with Helpers(named, 3) as some:
        found = [encode(lines) for lines in some.map(range(30))]
        pids = some.pids
    assert [each.data.splitlines()[1] for each in found] == EXPECTED
    assert [int(each.data.splitlines()[0]) for each in found] == pids * 10
    assert {each.lines for each in found} == {2}
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_fewer_items_than_helpers() -> None:
    """Nothing waits for more."""
    with Helpers(named, 3) as some:
        assert texts(some.map(range(1))) == EXPECTED[:1]
        assert texts(some.map(())) == []


def test_what_a_helper_cannot_do_is_done_here() -> None:
    """It fails, or there is none."""
    with Helpers(here_fails, 2) as some:
        assert texts(some.map(range(30))) == EXPECTED
    with Helpers(here_fails, 0) as none:
        assert texts(none.map(range(30))) == EXPECTED


def test_an_error_is_that_of_the_caller() -> None:
    """The work fails everywhere: the exception is the one of this process."""

    def fails(item: int) -> Lines:
        raise ValueError(item)

    with Helpers(fails, 2) as some, pytest.raises(ValueError, match=r"^0$"):
        list(some.map(range(30)))


def test_a_helper_that_is_killed_costs_nothing() -> None:
    """Neither what it had, nor what it would have been given."""
    with Helpers(named, 2) as some:
        results = some.map(range(30))
        found = [next(results) for _ in range(5)]
        os.kill(some.pids[0], signal.SIGKILL)
        assert texts(iter([*found, *results])) == EXPECTED


@pytest.mark.parametrize("room", [1, 40, 200])
def test_what_has_no_room_is_done_here(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Neither the items nor the results fit; the items fit and the results do not; both fit."""
    monkeypatch.setattr(helpers, "SLOT_BYTES", room)

    def longer(item: bytes) -> Lines:
        return [str(os.getpid() == CALLER), item.decode() * 5]

    items = [b"x" * 15] * 9
    with Helpers(longer, 2) as some:
        found = [encode(lines).data.split() for lines in some.map(items)]
    assert [text for _, text in found] == [b"x" * 75] * 9
    assert {where for where, _ in found} == {b"False" if room == 200 else b"True"}


def test_a_short_search_has_no_helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor has one with a single processor. A longer one has as many as there are processors, within the limit."""
    monkeypatch.setattr(helpers, "processors", lambda: 3)
    here = str(CALLER).encode()

    def places() -> list[bytes]:
        return [encode(lines).data.splitlines()[0] for lines in shared(named, range(30))]

    monkeypatch.setattr(helpers, "ALONE_S", 1e9)
    assert set(places()) == {here}
    monkeypatch.setattr(helpers, "ALONE_S", 0.0)
    found = places()
    assert found[0] == here
    assert len(set(found)) == 4
    assert here not in found[1:]
    monkeypatch.setattr(helpers, "processors", lambda: 99)
    assert len({*places()}) == helpers.HELPERS_MAX + 1
    monkeypatch.setattr(helpers, "processors", lambda: 1)
    assert set(places()) == {here}


PROGRAM = """
import os, sys
from hub.cli.helpers import Helpers

def work(item):
    return [str(item)]

with Helpers(work, 3) as some:
    list(some.map(range(9)))
    print(*some.pids, flush=True)
    sys.stdin.readline()
"""


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_helpers_end_with_their_caller() -> None:
    """However it ends. Ctrl-C is for the caller alone."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as caller:
        assert caller.stdout is not None
        pids = [int(pid) for pid in caller.stdout.readline().split()]
        for pid in pids:
            os.kill(pid, signal.SIGINT)
        assert len(pids) == 3
        assert all(map(is_running, pids))
        caller.kill()
    eventually(lambda: not any(map(is_running, pids)), "the helpers have ended")


def test_a_search_shows_the_same_with_helpers(hub: HubProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """All messages, or those that match, from the middle of a batch on; lines of syslog and losses among them."""
    with Producer(hub.socket, chunk_bytes_max=2000) as producer:
        for number in range(2000):
            producer.send({"message": f"request {number}", "n": number}, tag=f"app.{number // 100 % 2}")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(hub.socket)
        client.sendall(b"<12>Nov 26 08:00:00 host app[1]: request\n" * 40)
    eventually(lambda: hub.stats()["messages"] == 2040)
    found: dict[str, tuple[int, bytes]] = {}
    for alone_s in (1e9, 0.0):
        monkeypatch.setattr(helpers, "ALONE_S", alone_s)
        monkeypatch.setattr(helpers, "processors", lambda: 2)
        for name, query, after in (
            ("all", Query(), 0),
            ("some", Query(grep="7"), 777),
            ("none", Query(grep="nowhere"), 0),
            ("tag", Query(tag="app.1", grep="request"), 3),
            ("syslog", Query(tag="syslog", level="warning"), 0),
        ):
            results = [encode(each) for each in InFiles(hub.journal, query, waits=False).shown(after, shown)]
            lines = sum(each.lines for each in results)
            data = b"".join(each.data for each in results)
            assert found.setdefault(name, (lines, data)) == (lines, data)
    assert {name: lines for name, (lines, _) in found.items()} == {
        "all": 2040, "some": sum("7" in str(number) for number in range(777, 2000)), "none": 0, "tag": 1000,
        "syslog": 40,
    }  # fmt: skip


def shown(group: Iterable[Message]) -> Encoded:
    return encode(map(render_json, group))
