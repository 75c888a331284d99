"""`HubHandler` in processes of their own: the end of a program, and logs about logging."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import PATIENCE_S, HubProcess, eventually


def run(script: str, socket: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    environment = {**os.environ, "MPSR_SOCKET": socket}
    command = [sys.executable, *options, "-W", "error", "-c", script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def messages(hub: HubProcess, tag: str, count: int) -> list[str]:
    """Return the messages that a program has sent which has ended, or left in its spool, when there are *count*."""
    hub.look_for_spools()
    found = eventually(lambda: (all_ := hub.messages(tag))[count - 1 :] and all_, f"{count} messages of {tag}")
    return [message.record["message"] for message in found]


@pytest.mark.parametrize("end", ["pass", "sys.exit(3)", "raise ValueError", "os.kill(os.getpid(), 9)", "os._exit(0)"])
def test_the_last_words(folder: Path, end: str) -> None:
    """However the program ends, the message of every log call that returned is in the journal, including the last."""
    script = f"""
import logging, os, sys
from producers import HubHandler
logging.getLogger().addHandler(HubHandler(tag="ends"))
for number in range(100):
    logging.warning("message %d", number)
{end}
"""
    with HubProcess(folder) as hub:
        run(script, hub.socket, "-X", "dev")
        assert messages(hub, "ends", 100) == [f"message {number}" for number in range(100)]


@pytest.mark.parametrize("first", ["import atexit, logging", "import atexit"])
def test_hooks_that_run_at_exit_log_too(hub: HubProcess, tag: str, first: str) -> None:
    """
    A hook that logs after all producers were closed is recorded, whether logging or the hook was registered first.
    """
    script = f"""
{first}
def last_words():
    logging.warning("at exit")
atexit.register(last_words)
import logging
from producers import HubHandler
logging.getLogger().addHandler(HubHandler(tag="{tag}"))
logging.warning("before")
"""
    done = run(script, hub.socket, "-X", "dev")
    assert (done.returncode, done.stderr) == (0, "")
    assert messages(hub, tag, 2) == ["before", "at exit"]


def test_our_own_log_is_no_loop(folder: Path) -> None:
    """The log of a producer goes to standard error, and not to the hub."""
    script = f"""
import logging
from producers import HubHandler
handler = HubHandler(r"{folder / "hub.sock"}", tag="all")
logging.getLogger().addHandler(handler)
logging.getLogger().setLevel(1)
for number in range(1000):
    logging.info("message %d", number)
input()
handler.producer.flush({PATIENCE_S})
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stderr is not None
        warning = program.stderr.readline()  # that there is no folder for its spool
        with HubProcess(folder) as hub:
            _, more = program.communicate(b"\n", timeout=PATIENCE_S)
            assert messages(hub, "all", 1000) == [f"message {number}" for number in range(1000)]
    assert (program.returncode, more) == (0, b"")
    assert warning.startswith(b"messages wait for the hub in memory only")


def test_a_program_that_uses_a_hub_of_its_own(folder: Path) -> None:
    """With hub and handler in one process and everything logged, the hub's work causes no messages."""
    script = f"""
import asyncio, logging
from hub import Hub
from producers import HubHandler

async def main():
    async with Hub(r"{folder / "s"}") as hub:
        handler = HubHandler(hub.path)
        logging.getLogger().addHandler(handler)
        logging.getLogger().setLevel(1)
        logging.getLogger("app").info("one")
        async for message in hub:
            print(message.record["message"], flush=True)
            if message.record["message"] == "one":
                logging.getLogger("app").info("two")
            elif message.record["message"] == "two":
                stopping = asyncio.create_task(hub.stop())
        await stopping

asyncio.run(main())
"""
    done = run(script, "unused")
    assert done.stdout.splitlines() == ["one", "two"], done.stderr
    assert done.returncode == 0
