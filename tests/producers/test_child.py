"""A child process that answers requests: order of answers, standard error, death, and the end of the block."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from producers.child import Child
from producers.errors import ChildDied
from tests.support import PATIENCE_S, descriptors, eventually

Main = Callable[[], Awaitable[None]]
RUNNERS = [asyncio.run, uvloop.run]
each_loop = pytest.mark.parametrize("run", RUNNERS, ids=["asyncio", "uvloop"])
ECHO = """
import os, sys, time
for line in sys.stdin.buffer:
    word = line.rstrip(b"\\n")
    sys.stderr.write("heard\\n"); sys.stderr.flush()
    if word == b"die":
        sys.stderr.write("last words\\n"); sys.stderr.flush(); os._exit(3)
    if word == b"close":
        os.close(1); time.sleep(600)
    if word == b"long":
        word = b"x" * 1_000_000
    sys.stdout.buffer.write(word[::-1] + b"\\n"); sys.stdout.buffer.flush()
"""


def echo(**options: object) -> Child:
    return Child(sys.executable, "-c", ECHO, on_stderr=lambda line: None, **options)  # type: ignore[arg-type]


def within(run: Callable[..., None], main: Callable[[], Awaitable[None]]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await main()

    run(guarded())


@each_loop
def test_answers_belong_to_their_requests(run: Callable[..., None]) -> None:
    """
    Sequential and concurrent requests of any length get their answers, text for text, bytes for bytes; nothing stays
    open.
    """
    before = descriptors()

    async def main() -> None:
        async with echo() as child:
            assert await child.request("hello") == "olleh"
            assert await child.request(b"\xff\x00a") == b"a\x00\xff"
            assert await child.request("\udcff") == "\udcff"
            many = [f"request {number}" for number in range(200)]
            assert await asyncio.gather(*map(child.request, many)) == [text[::-1] for text in many]
            assert len(await child.request("long")) == 1_000_000
        assert child.returncode == 0

    within(run, main)
    eventually(lambda: descriptors() <= before, "descriptors are closed")


@each_loop
def test_a_cancelled_request_costs_the_others_nothing(run: Callable[..., None]) -> None:
    """The answer of a cancelled request is skipped, and the next request gets its own."""

    async def main() -> None:
        async with echo() as child:
            for _ in range(20):
                gone = asyncio.create_task(child.request("gone"))
                await asyncio.sleep(0)
                gone.cancel()
                assert await child.request("next") == "txen"

    within(run, main)


@each_loop
def test_death_is_an_error_at_once(run: Callable[..., None]) -> None:
    """Waiting and later requests raise, with the exit code and the last lines of standard error."""

    async def main() -> None:
        async with echo() as child:
            waiting = [asyncio.create_task(child.request(word)) for word in ("first", "die", "never")]
            done = await asyncio.gather(*waiting, return_exceptions=True)
            assert done[0] == "tsrif"
            for died in done[1:]:
                assert isinstance(died, ChildDied)
                assert (died.code, died.stderr.splitlines()[-1]) == (3, "last words")
            with pytest.raises(ChildDied, match="exit code 3"):
                await child.request("later")

    within(run, main)


@each_loop
def test_a_kill_is_an_error_while_others_hold_the_pipe(run: Callable[..., None]) -> None:
    """SIGKILL is reported with its number, even though a grandchild keeps standard output open."""

    async def main() -> None:
        async with Child("sh", "-c", "sleep 600 & read line; read line") as child:
            waiting = asyncio.create_task(child.request("x"))
            await asyncio.sleep(0)
            os.kill(child.pid, signal.SIGKILL)
            with pytest.raises(ChildDied, match="signal 9"):
                await waiting

    within(run, main)


def test_a_closed_output_is_an_error() -> None:
    """A child that runs but cannot answer is reported as such, and is stopped at the end of the block."""

    async def main() -> None:
        async with echo(stop_timeout=0.1) as child:
            with pytest.raises(ChildDied, match="closed its standard output"):
                await child.request("close")
        assert child.returncode == -signal.SIGTERM

    within(asyncio.run, main)


def test_a_command_that_is_not_there() -> None:
    """The first request raises for a command that does not exist."""

    async def main() -> None:
        async with Child("no-such-command", on_stderr=lambda line: None) as child:
            with pytest.raises(ChildDied, match=r"exit code 127: mpsr: cannot run no-such-command: No such file"):
                await child.request("x")

    within(asyncio.run, main)


def test_standard_error_is_apart(capfd: pytest.CaptureFixture[str]) -> None:
    """Standard error goes to the callback or to ours, and is never an answer."""
    heard: list[bytes] = []

    async def main() -> None:
        for listen in (heard.append, None):
            async with Child(sys.executable, "-c", ECHO, on_stderr=listen) as child:
                assert await child.request("a") == "a"

    within(asyncio.run, main)
    assert heard == [b"heard"]
    assert capfd.readouterr().err == "heard\n"


@pytest.mark.parametrize("line", ["a\nb", b"a\n"])
def test_a_request_is_one_line(line: str | bytes) -> None:
    """A request with a line feed inside is refused, and nothing is written."""

    async def main() -> None:
        async with echo() as child:
            with pytest.raises(ValueError, match="one line"):
                await child.request(line)
            assert await child.request("ab") == "ba"

    within(asyncio.run, main)


def test_it_is_used_in_its_block() -> None:
    """Use before and after the block, and a second block, raise a plain error."""

    async def main() -> None:
        child = echo()
        with pytest.raises(RuntimeError):
            await child.request("a")
        async with child:
            pass
        with pytest.raises(ChildDied):
            await child.request("a")
        with pytest.raises(RuntimeError):
            await child.__aenter__()

    within(asyncio.run, main)
    with pytest.raises(ValueError, match="give the command to run"):
        Child()


@each_loop
def test_a_stubborn_child_does_not_outlive_the_block(run: Callable[..., None]) -> None:
    """
    SIGTERM, then SIGKILL end the child and the processes that it started; a cancelled block does not wait for that.
    """

    async def main() -> None:
        stubborn = ("sh", "-c", "trap '' TERM; sleep 600 & echo $!; while :; do sleep 600; done")
        async with Child(*stubborn, stop_timeout=0.1) as child:
            other = int(await child.request("x"))
        assert child.returncode == -signal.SIGKILL
        eventually(lambda: not _is_alive(other), "its group is gone")

        async def cancelled() -> None:
            async with Child(*stubborn, stop_timeout=600.0) as child:
                await child.request("x")
                started.set_result(child)
                await child.request("never answered")

        started: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(cancelled())
        child = await started
        for _ in range(2):  # the request, then the wait for its end
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert child.returncode == -signal.SIGKILL

    within(run, main)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG")
def test_it_does_not_outlive_us(tmp_path: Path) -> None:
    """When the parent gets SIGKILL, so does the child."""
    script = f"""
import asyncio, pathlib, time
from producers.child import Child
async def main():
    async with Child("sleep", "600") as child:
        pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(child.pid) + ".")
        time.sleep(600)
asyncio.run(main())"""
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        pid = int(eventually(lambda: _read(tmp_path / "pid").endswith(".") and _read(tmp_path / "pid")[:-1], "it runs"))
        parent.kill()
    eventually(lambda: not _is_alive(pid), "the child is gone")


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False
