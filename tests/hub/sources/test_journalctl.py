"""hub.sources.journalctl: a child, its output and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hub.sources import journalctl
from hub.sources.journalctl import Journalctl
from tests.hub.clients import Run, both_loops, until
from tests.journald import script
from tests.support import descriptors, eventually


def read(child: Journalctl) -> bytes | None:
    """Return what the child has written; None if it has written nothing since."""
    try:
        return os.read(child.fd, 1 << 20)
    except BlockingIOError:
        return None


def is_there(pid: int) -> bool:
    """Return whether a process runs."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(") ")[2][:1] != "Z"
    except FileNotFoundError:
        return False


@both_loops
def test_output_errors_and_status(run: Run, tmp_path: Path) -> None:
    """Its output ends where it ends; standard error is kept line by line; the status says how it ended."""
    path = script(tmp_path / "child", ['printf "%s " "$@"', "echo one >&2", "echo one >&2", "printf two >&2", "exit 3"])

    async def main() -> None:
        child = await Journalctl.start(path, ["--cursor=x", b"\xff"])
        output = b""
        while (data := read(child)) != b"":
            output += data or b""
            await asyncio.sleep(0)
        assert await child.wait() == 3
        assert output == b"--output=export --quiet --no-pager --cursor=x \xff "
        assert child.take_lines() == ["one", "two"]
        assert child.take_lines() == []
        await child.kill()
        await child.kill()
        assert child.fd == -1

    run(main())


@both_loops
def test_kill(run: Run, tmp_path: Path) -> None:
    """After `kill` it is gone, also if it ignores signals and nobody reads what it writes."""
    path = script(tmp_path / "child", ["trap '' TERM INT PIPE", "while :; do echo xxxxxxxxxxxxxxxx; done"])

    async def main() -> None:
        child = await Journalctl.start(path, [])
        assert is_there(child.pid)
        await child.kill()
        assert not is_there(child.pid)
        assert await child.wait() == -signal.SIGKILL

    run(main())


@both_loops
def test_errors_are_bounded(run: Run, tmp_path: Path) -> None:
    """Of any amount of complaints, a few are kept, each with its beginning."""
    path = script(
        tmp_path / "child",
        ["head -c 3000000 /dev/zero | tr '\\0' x >&2", "echo >&2", "seq 1000 >&2", "printf last >&2"],
    )

    async def main() -> None:
        child = await Journalctl.start(path, [])
        assert await child.wait() == 0
        lines = child.take_lines()
        assert len(lines) == journalctl.LINES_MAX
        assert lines[-2:] == ["1000", "last"]
        await child.kill()

    run(main())


def test_a_missing_program(tmp_path: Path) -> None:
    """That it cannot be started is an error, and no descriptor is left open."""

    async def main() -> None:
        before = descriptors()
        with pytest.raises(FileNotFoundError):
            await Journalctl.start(str(tmp_path / "missing"), [])
        assert descriptors() == before

    asyncio.run(main())


def test_it_ends_with_the_hub(tmp_path: Path) -> None:
    """When the process that started it is killed, a real journalctl ends, although it has nothing to write."""
    if not os.path.exists("/usr/bin/journalctl"):
        pytest.skip("there is no journalctl (install systemd)")
    code = (
        "import asyncio\nfrom hub.sources.journalctl import Journalctl\n"
        "async def main():\n"
        f"    child = await Journalctl.start('journalctl', ['--merge', '--follow', '--directory={tmp_path}'])\n"
        "    print(child.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as hub:
        assert hub.stdout is not None
        pid = int(hub.stdout.readline())
        eventually(lambda: "ppoll" in wait_of(pid) or "poll" in wait_of(pid) or not wait_of(pid), "it waits")
        hub.kill()
    eventually(lambda: not is_there(pid), "journalctl ends")


def wait_of(pid: int) -> str:
    """Return what a process waits for in the kernel; empty if the kernel does not say."""
    try:
        with open(f"/proc/{pid}/wchan", encoding="ascii") as file:
            return file.read().strip("0")
    except OSError:
        return ""


@both_loops
def test_it_waits_for_its_reader(run: Run, tmp_path: Path) -> None:
    """What nobody reads is not held by the hub: the child waits in the middle of its output."""
    path = script(tmp_path / "child", ["head -c 10000000 /dev/zero", "echo end >&2"])

    async def main() -> None:
        child = await Journalctl.start(path, [])
        size = 0
        for _ in range(20):
            size += len(read(child) or b"")
            await asyncio.sleep(0)
        assert child.take_lines() == []
        while (data := read(child)) != b"":
            size += len(data or b"")
            await asyncio.sleep(0)
        assert size == 10_000_000
        await until(lambda: child._lines)
        await child.kill()

    run(main())
