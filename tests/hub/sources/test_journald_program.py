"""hub.sources.journald, with a program of the shell in the place of journalctl: what it prints, and how it ends."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.access import Access, Rule, Rules
from hub.errors import SourceError
from hub.message import UNKNOWN_PEER, Position, position_batches
from hub.sources import journald, journalfiles
from hub.sources.journald import JournaldSource
from hub.sources.journalplace import Place
from hub.sources.kinds import Journald
from hub.sources.source import Lag
from tests.hub.clients import Run, both_loops, until
from tests.hub.sources.journaldlife import children, journald_source, kill_children, own, table_of, texts, wait_for
from tests.hub.sources.repeated import Committed, Life, living
from tests.journald import script

LINE = b"0123456789abcdef0123456789abcdef"


Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """A function that puts a program of the shell in the place of journalctl, and returns the file of its calls."""

    def put(*lines: str) -> Path:
        calls = tmp_path / "calls"
        calls.touch()
        path = script(tmp_path / "journalctl", [f"cd {tmp_path}", 'echo "$@" >> calls', *lines])
        monkeypatch.setattr(journalfiles, "find", lambda: path)
        return calls

    monkeypatch.setattr(journald, "RETRY_MIN_S", 0.001)
    return put


def export(number: int, *, text: str | None = None, line: bytes = LINE, **fields: str) -> bytes:
    """Return an entry in the export format."""
    more = "".join(f"{name}={value}\n" for name, value in fields.items()).encode()
    text = f"n{number}" if text is None else text
    return b"__CURSOR=s=%s;i=%x;b=1\n__REALTIME_TIMESTAMP=17000000000%05d\nSYSLOG_IDENTIFIER=test\nMESSAGE=%s\n%s\n" % (
        line, number, number, text.encode(), more,
    )  # fmt: skip


def exports(*numbers: int) -> bytes:
    """Return entries in the export format."""
    return b"".join(map(export, numbers))


ENDLESS = "exec sleep 1000"


async def four_arrive(folder: Path, committed: Committed) -> None:
    """Run a hub until four entries have arrived, each once, and nothing is lost."""
    async with living(folder, committed, table_of(folder)):
        await wait_for(committed, "n4")
    assert own(committed) == texts(1, 2, 3, 4)
    assert committed.losses == []


@both_loops
def test_a_child_that_ends(
    run: Run, install: Install, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is started again at the place, after pauses that grow; what it complains about is logged once."""
    pauses: list[float] = []
    calls = install(
        "n=$(wc -l < calls)",
        'echo "Bad message" >&2',
        "[ -e $n ] && cat $n",
        "[ $n -lt 7 ] && exit 1",
        ENDLESS,
    )
    for call, data in {1: exports(1, 2), 2: exports(2, 3), 3: exports(3), 4: exports(3), 7: exports(3, 4)}.items():
        (tmp_path / str(call)).write_bytes(data)
    wait = JournaldSource._wait

    async def note(self: JournaldSource, timeout: float) -> None:
        if timeout < 1:
            pauses.append(timeout)
        await wait(self, timeout)

    monkeypatch.setattr(JournaldSource, "_wait", note)
    monkeypatch.setattr(journald, "RETRY_MAX_S", 0.006)
    committed = Committed()

    async def main() -> None:
        await four_arrive(tmp_path, committed)

    run(main())
    assert pauses == [0.001, 0.001, 0.002, 0.004, 0.006, 0.006]
    asked = calls.read_text().splitlines()
    cursors = [call.partition("--cursor=")[2] for call in asked]
    assert cursors == ["", *(f"s={LINE.decode()};i={number};b=1" for number in (2, 3, 3, 3, 3, 3))]
    assert asked[0] == f"--output=export --quiet --no-pager --merge --directory={tmp_path} --follow --no-tail"
    logged = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [each["event"] for each in logged].count("journalctl.ended") == 1


@both_loops
def test_one_child_at_a_time(run: Run, install: Install, tmp_path: Path) -> None:
    """The next one is started when the last one has ended; at a stop none is left."""
    install(
        "mkdir running || echo two >> fault",
        "n=$(wc -l < calls)",
        "cat $n",
        "[ $n = 9 ] && exec sleep 1000",
        "rmdir running",
    )
    for call in range(1, 10):
        (tmp_path / str(call)).write_bytes(exports(call))
    committed = Committed()

    async def main() -> None:
        async with living(tmp_path, committed, table_of(tmp_path)):
            await wait_for(committed, "n9")
        assert own(committed) == texts(*range(1, 10))

    run(main())
    assert not (tmp_path / "fault").exists()
    assert "sleep" not in [name for _, name in children()]


@both_loops
def test_a_child_that_fails_at_once(run: Run, install: Install, tmp_path: Path) -> None:
    """That is a fault of the source, in journalctl's words; lacking rights come with advice."""
    refusal = "No journal files were opened due to insufficient permissions."
    for begin in ("start", "end"):
        for line, expected in ((f'echo "{refusal}" >&2', "systemd-journal"), ("", "journalctl: ended with status 1")):
            install(line, "exit 1")
            assert expected in fault_of_run(run, tmp_path, table_of(tmp_path, begin=begin))
    install("kill -9 $$")
    assert "journalctl: ended by signal 9" in fault_of_run(run, tmp_path, table_of(tmp_path))


def fault_of_run(run: Run, folder: Path, table: Journald, **options: Any) -> str:
    """Return the error that `run` raises."""
    faults: list[str] = []

    async def main() -> None:
        life = Life(folder, Committed(), table, journald_source, **options)
        with pytest.raises(SourceError) as raised:
            await life.running
        faults.append(raised.value.reason)
        await life.kill()

    run(main())
    return faults[0]


@both_loops
def test_output_that_is_no_export(run: Run, install: Install, tmp_path: Path) -> None:
    """The child is started again, and what was read before is not read a second time."""
    install("n=$(wc -l < calls)", "cat $n", "[ $n = 1 ] && exit", ENDLESS)
    committed = Committed()
    no_cursor, long = b"MESSAGE=x\n\n", b"__CURSOR=" + b"x" * 1000 + b"\nMESSAGE=x\n\n"
    bad = b"\n\xff\n\n"
    for call, data in enumerate((exports(1), exports(1, 2) + bad, exports(2, 3) + no_cursor, exports(2, 3) + long), 1):
        (tmp_path / str(call)).write_bytes(data)
    (tmp_path / "5").write_bytes(exports(2, 3, 4))

    async def main() -> None:
        await four_arrive(tmp_path, committed)

    run(main())


@both_loops
def test_an_empty_journal(run: Run, install: Install, tmp_path: Path) -> None:
    """If the journal has no entry at the first start, what comes is new, also if it comes while no hub runs."""
    calls = install('case "$*" in *--lines=1*) exit 0;; esac', "[ -e entries ] && cat entries", ENDLESS)
    committed, table = Committed(), table_of(tmp_path, begin="end")

    async def main() -> None:
        async with living(tmp_path, committed, table):
            await until(lambda: len(calls.read_text().splitlines()) == 2)
        (tmp_path / "entries").write_bytes(exports(1, 2))
        async with living(tmp_path, committed, table):
            await wait_for(committed, "n2")
        assert own(committed) == texts(1, 2)

    run(main())


@both_loops
def test_the_place_has_gone(run: Run, install: Install, tmp_path: Path) -> None:
    """If the numbers begin anew, one loss says that nobody knows how many are missing; it is not repeated."""
    install("cat entries", ENDLESS)
    committed = Committed()
    name = b"journald:" + journalfiles.identity(str(tmp_path))
    committed.commit(position_batch(Place(b"s=1;i=9", b"1" * 32, 9).position(name)))
    (tmp_path / "entries").write_bytes(exports(3, 4))

    def has(count: int) -> bool:
        return len(own(committed)) == count

    async def main() -> None:
        for expected in (2, 4):
            async with living(tmp_path, committed, table_of(tmp_path)):
                await until(functools.partial(has, expected))
        assert [(loss["reason"], loss["count"]) for loss in committed.losses] == [(journald.UNKNOWN, 1)]
        assert own(committed) == texts(3, 4) * 2  # this program knows no cursor

    run(main())


def position_batch(position: Position) -> Any:
    """Return a batch with a position only."""
    return position_batches([position], peer=UNKNOWN_PEER)[0]


@both_loops
def test_an_entry_over_the_limit(run: Run, install: Install, tmp_path: Path) -> None:
    """It is one loss, and what follows is read."""
    install("cat entries", ENDLESS)
    (tmp_path / "entries").write_bytes(exports(1) + export(2, text="x" * 200_000) + exports(3))
    committed = Committed()

    async def main() -> None:
        async with living(tmp_path, committed, table_of(tmp_path), frame_bytes_max=100_000):
            await wait_for(committed, "n3")
        (loss,) = committed.losses
        assert (loss["count"], "over the limit of 100000 bytes" in loss["reason"]) == (1, True)
        assert loss["bytes"] > 200_000
        assert own(committed) == texts(1, 3)

    run(main())


@both_loops
def test_units(run: Run, install: Install, tmp_path: Path) -> None:
    """Only chosen units are stored; the place moves past the others, and nothing counts as missing."""
    install("cat entries", ENDLESS)
    data = b"".join(export(number, _SYSTEMD_UNIT=f"u{number % 3}.service") for number in range(1, 10))
    (tmp_path / "entries").write_bytes(data)
    committed = Committed()

    async def main() -> None:
        async with living(tmp_path, committed, table_of(tmp_path, units=("u0*",))):
            await wait_for(committed, "n9")
        assert own(committed) == texts(3, 6, 9)
        assert committed.losses == []
        (tmp_path / "entries").write_bytes(data + export(10))
        async with living(tmp_path, committed, table_of(tmp_path, exclude_units=("*",))) as life:
            await until(lambda: numbers() == [10])
            (tmp_path / "entries").write_bytes(data + export(10) + export(11))
            await until(lambda: "sleep" in [name for _, name in children()])
            kill_children("sleep")
            source: Any = life.source
            await until(lambda: source._at.place.number == 11)
            assert numbers() == [10], "it is stored from time to time only"
        assert numbers() == [11], "and at the end"
        assert own(committed) == texts(3, 6, 9)

    def numbers() -> list[int]:
        return [each.number for each in committed.positions(b"journald:")]

    run(main())


@both_loops
def test_the_place_is_stored_in_the_end(
    run: Run, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if all entries are left out, the place is stored from time to time, and if nothing comes, once a day."""
    install("cat entries", ENDLESS)
    (tmp_path / "entries").write_bytes(exports(1, 2))
    monkeypatch.setattr(journald, "STORE_S", 0.001)
    committed, table = Committed(), table_of(tmp_path, exclude_units=("*",))

    async def main() -> None:
        async with living(tmp_path, committed, table):
            await until(lambda: [each.number for each in committed.positions(b"journald:")] == [2])
            assert len(committed.batches) == 1
            monkeypatch.setattr(journald, "REFRESH_S", 0.001)
            await until(lambda: len(committed.batches) > 2)

    run(main())
    assert committed.messages == []


@both_loops
def test_what_journalctl_complains_about(
    run: Run, install: Install, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What a child that goes on writes to standard error is in the log, each line once."""
    install("cat entries", "echo truncated >&2", "echo truncated >&2", "echo other >&2", "cat more", ENDLESS)
    (tmp_path / "entries").write_bytes(exports(1))
    (tmp_path / "more").write_bytes(exports(2))
    seen: list[str] = []

    def has_both() -> bool:
        seen.append(capfd.readouterr().err)
        return "other" in "".join(seen)

    async def main() -> None:
        committed = Committed()
        async with living(tmp_path, committed, table_of(tmp_path)):
            await wait_for(committed, "n2")
            await until(has_both)

    monkeypatched = journald.STORE_S
    journald.STORE_S = 0.01
    try:
        run(main())
    finally:
        journald.STORE_S = monkeypatched
    logged = [json.loads(line) for line in "".join(seen).splitlines()]
    assert [each["text"] for each in logged if each["event"] == "journalctl.reported"] == ["truncated", "other"]


@both_loops
def test_the_lag(run: Run, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown at first, then the age of what is read, and nothing when the end is reached."""
    install("cat entries", ENDLESS)
    (tmp_path / "entries").write_bytes(exports(1))
    committed = Committed()

    async def main() -> None:
        async with living(tmp_path, committed, table_of(tmp_path)) as life:
            source: Any = life.source
            assert source.lag == Lag()
            await wait_for(committed, "n1")
            assert source.lag.seconds > 10**7
            monkeypatch.setattr(journald, "QUIET_S", 0.0)
            await until(lambda: source.lag == Lag(seconds=0.0))

    run(main())


@both_loops
def test_rules(run: Run, install: Install, tmp_path: Path) -> None:
    """A rule that denies what this source sends is a fault of the source, and nothing is read."""
    calls = install(ENDLESS)
    access = Access({"send": Rules(deny=(Rule.parse("comm:journald"),))})

    async def main() -> None:
        with pytest.raises(SourceError, match="send_deny"):
            Life(tmp_path, Committed(), table_of(tmp_path), journald_source, access=access)

    run(main())
    assert calls.read_text() == ""
