"""Child processes: what they inherit, how they end, how their exit is reported."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from producers.spawn import processes
from tests.support import PATIENCE_S, eventually

OF_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}  # which it ignores
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG")


def output_of(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes, int]:
    assert process.stdout is not None
    assert process.stderr is not None
    os.set_blocking(process.stdout.fileno(), True)
    os.set_blocking(process.stderr.fileno(), True)
    with process:
        return process.stdout.read(), process.stderr.read(), process.wait(PATIENCE_S)


@pytest.fixture(params=[set(), {signal.SIGHUP, signal.SIGINT}], ids=["plain", "nohup"])
def ignored(request: pytest.FixtureRequest) -> Iterator[set[int]]:
    """Ignore these signals, as if this process had been started so, and those that Python ignores."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals() - OF_PYTHON}
    for number, handler in before.items():
        if number in request.param or handler is signal.SIG_IGN:
            signal.signal(number, signal.SIG_IGN if number in request.param else signal.SIG_DFL)
    yield request.param
    for number, handler in before.items():
        if number in request.param or handler is signal.SIG_IGN:
            signal.signal(number, handler)


def test_a_child_inherits_nothing_of_ours(ignored: set[int]) -> None:
    """
    It has no descriptor, session or variable of ours, and ignores only the signals that our parent chose to ignore.
    """
    with open(os.devnull) as ours:
        os.set_inheritable(ours.fileno(), True)
        script = ["sh", "-c", "ls /proc/self/fd | wc -l; grep SigIgn /proc/self/status; echo ${LC_CTYPE-none}"]
        out, err, code = output_of(processes.start(script, env={"PATH": os.environ["PATH"]}))
    descriptors, _, mask, variable = out.split()
    assert (descriptors, variable, err, code) == (b"4", b"none", b"", 0)  # 3, and that of ls
    assert {number for number in signal.valid_signals() if int(mask, 16) >> (number - 1) & 1} == ignored


def test_a_child_leads_a_session_and_keeps_its_locale() -> None:
    """It has its own group, and the variables that it was given."""
    script = ["sh", "-c", "echo $LC_CTYPE; [ $(ps -o sid= -p $$) = $$ ] && echo leads"]
    out, _, _ = output_of(processes.start(script, env={**os.environ, "LC_CTYPE": "C.UTF-8"}))
    assert out.split() == [b"C.UTF-8", b"leads"]


@pytest.mark.parametrize(("name", "code"), [("no-such-command", 127), ("/etc/passwd", 126)])
@linux
def test_what_cannot_be_run_says_so(name: str, code: int) -> None:
    """It reports on its standard error, and exits with the codes of a shell."""
    out, err, found = output_of(processes.start([name], env=os.environ))
    assert (out, err.startswith(b"mpsr: cannot run " + name.encode()), found) == (b"", True, code)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("by_thread", [False, True])
def test_an_end_is_heard_of_once(run: object, by_thread: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The callback runs once, after the process was waited for, with pidfds and without."""
    if by_thread:
        monkeypatch.delattr(os, "pidfd_open", raising=False)

    async def main() -> None:
        process = processes.start(["sh", "-c", "exit 5"], env=os.environ, stdout=None, stderr=None)
        heard = asyncio.Event()
        processes.on_exit(process, heard.set)
        async with asyncio.timeout(PATIENCE_S):
            await heard.wait()
        assert process.returncode == 5

    run(main())  # type: ignore[operator]


@linux
@pytest.mark.parametrize("death_signal", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_dies_with_its_parent(tmp_path: Path, death_signal: signal.Signals) -> None:
    """SIGKILL of the parent sends the child its signal."""
    script = f"""
import os, signal, time
from producers.spawn import processes
command = ["sh", "-c", "trap 'echo > {tmp_path}/asked; exit' TERM; echo up; while :; do sleep 0.01; done"]
process = processes.start(command, env=os.environ, stdout=None, stderr=None, death_signal=signal.{death_signal.name})
print(process.pid, flush=True)
time.sleep(600)"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        lines = {parent.stdout.readline(), parent.stdout.readline()}
        pid = int(next(line for line in lines if line != b"up\n"))
        parent.kill()
    eventually(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text(), "it died")
    assert (tmp_path / "asked").exists() == (death_signal == signal.SIGTERM)


@linux
def test_a_parent_that_died_before_is_noticed() -> None:
    """A child that requests the signal after its parent has died ends itself."""
    command = processes._shim(os.environ, signal.SIGKILL)
    position = command.index(str(os.getpid()))
    command[position] = str(os.getpid() + 1)
    run = subprocess.run([*command, "echo", "runs"], stdout=subprocess.PIPE, check=False)
    assert (run.stdout, run.returncode) == (b"", -signal.SIGKILL)


def test_a_group_is_empty_when_nobody_is_left() -> None:
    """A signal reaches the whole group, and the group is reported empty when it is."""
    process = processes.start(["sh", "-c", "sleep 600 & exec sleep 600"], env=os.environ, stdout=None, stderr=None)
    assert processes.signal_group(process.pid, signal.SIGKILL)
    process.wait(PATIENCE_S)
    eventually(lambda: processes.is_group_empty(process.pid), "the group is empty")
    assert not processes.signal_group(process.pid, 0)
