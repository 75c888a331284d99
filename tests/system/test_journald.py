"""
The systemd journal and the kernel's log in a hub that is killed, with a real journald.

`pytest tests/system/test_journald.py --kills 200 --seed 7` runs a long history.

Not here: histories in one process, which are faster (tests.hub.sources.test_journald).
"""

from __future__ import annotations

import functools
import os
import random
import time
from pathlib import Path

import pytest

from producers import call
from tests.journald import NAME, running
from tests.support import HubProcess, eventually

pytestmark = pytest.mark.durability


def children_of(pid: int) -> list[int]:
    """Return the processes that *pid* has started."""
    return [int(each) for path in Path(f"/proc/{pid}/task").glob("*/children") for each in path.read_text().split()]


@pytest.mark.timeout(3600, method="signal")
def test_kills_of_the_hub(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """
    Entries, rotations and vacuums while the hub is killed, stopped and started: each entry is stored once, or counted
    in a loss. A killed hub leaves no journalctl, and a reload takes the source away.
    """
    kills, dice = request.config.getoption("--kills") // 2, random.Random(request.config.getoption("--seed"))
    (tmp_path / NAME).mkdir()
    with running(tmp_path / NAME) as daemon:
        written = 0
        config = tmp_path / "hub.toml"
        table = f'[[sources]]\ntype = "journald"\nfrom = "start"\ndirectory = "{daemon.directory}"\n'
        config.write_text(table)

        def write() -> None:
            nonlocal written
            count = dice.choice((1, 20, 300))
            daemon.write(*(f"n{number}" for number in range(written, written + count)))
            written += count
            daemon.settled(f"n{written - 1}")

        with HubProcess(tmp_path, "--journal-size", "64MiB", "--config", str(config)) as hub:
            write()
            eventually(lambda: texts(hub))  # what is deleted before the first look is no loss
            for _ in range(kills):
                for step in dice.sample((write, write, daemon.rotate, daemon.vacuum), dice.randrange(4)):
                    step()
                time.sleep(dice.random() * 0.02)  # the moment of the kill, not a wait for something
                left = children_of(hub.process.pid)
                if dice.random() < 0.7:
                    hub.kill()
                else:
                    hub.stop()
                eventually(functools.partial(have_ended, left), "journalctl has ended")
                if dice.random() < 0.5:
                    write()
                hub.start()
            daemon.write("end")
            last = daemon.settled("end")
            eventually(lambda: "end" in texts(hub))
            lost = sum(message.record["count"] for message in hub.messages("mpsr.loss"))
            assert lost + len(hub.messages("journald")) == last
            assert len(texts(hub)) == len(set(texts(hub))), "nothing twice"
            (row,) = call("sources", path=hub.socket)["sources"][1:]
            assert (row["type"], row["path"], row["state"]) == ("journald", str(daemon.directory), "open")
            pids = children_of(hub.process.pid)
            config.write_text("")
            call("reload", path=hub.socket)
            assert have_ended(pids)
            assert len(call("sources", path=hub.socket)["sources"]) == 1


def texts(hub: HubProcess) -> list[str]:
    """Return the texts that the test has written."""
    return [each.record["message"] for each in hub.messages("journald") if each.record.get("app") == "test"]


def have_ended(pids: list[int]) -> bool:
    """Return whether none of *pids* is a journalctl that runs."""
    return not any(map(is_journalctl, pids))


def is_journalctl(pid: int) -> bool:
    """Return whether a process is a journalctl that runs."""
    try:
        name, _, state = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(") ")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return name == "journalctl" and state[0] != "Z"


def test_the_kernels_log(tmp_path: Path) -> None:
    """What programs write to the kernel's log is stored once, over a kill of the hub."""
    if os.geteuid() != 0 or not os.access("/dev/kmsg", os.R_OK | os.W_OK):
        pytest.skip("needs root: /dev/kmsg is not for this user, or not there")
    mark = f"mpsr system test {time.time_ns()}"
    expected = [f"{mark} {number}" for number in range(4)]

    def write(number: int) -> None:
        with open("/dev/kmsg", "wb", buffering=0) as file:
            file.write(f"<14>{expected[number]}\n".encode())

    def found(hub: HubProcess) -> list[str]:
        return [each.record["message"] for each in hub.messages("kmsg") if mark in str(each.record["message"])]

    write(0)
    with HubProcess(tmp_path, "--kmsg") as hub:
        write(1)
        eventually(lambda: expected[1] in found(hub))
        hub.kill()
        write(2)
        hub.start()
        write(3)
        eventually(lambda: expected[3] in found(hub))
        assert found(hub) == expected
