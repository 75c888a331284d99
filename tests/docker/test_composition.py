"""
The image and the composition, built and run by a real engine.

Without one this is skipped; `.ci/docker start` brings it. The tests share one composition and follow one another:
each leaves a hub that runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from operator import gt

import pytest

from tests.docker.engine import ROOT, Composition, Missing, built_image, docker
from tests.support import eventually

pytestmark = pytest.mark.timeout(600)

ADDED_BYTES_MAX = 75_000_000
KILLS, LINES_FED = 2, 200
# One message is on its way all the time, until standard input ends; then it says how many were acknowledged.
SENDER = """
import sys, threading
from producers import Producer
stop, sent = threading.Event(), 0
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
with Producer(tag="load.web") as producer:
    while not stop.is_set():
        producer.send({"n": sent})
        sent += 1
        producer.flush(timeout=60)
print(sent)
"""


@pytest.fixture(scope="module")
def image(base: str) -> Iterator[str]:
    """Give the name of the image, built for this run."""
    with built_image(base) as name:
        yield name


@pytest.fixture(scope="module")
def composition(image: str) -> Iterator[Composition]:
    """Give the running composition."""
    try:
        with Composition(image) as composition:
            yield composition
    except Missing as missing:
        pytest.skip(str(missing))


def test_the_image_is_small_and_runs_as_a_user_of_its_own(base: str, image: str) -> None:
    """It adds less than 75 MB to its base, has no root, its own health check, a stop signal and labels."""
    described = json.loads(docker("image", "inspect", image))[0]
    config = described["Config"]
    assert described["Size"] - int(docker("image", "inspect", "--format", "{{.Size}}", base)) < ADDED_BYTES_MAX
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "mpsr", "call", "ping"]
    assert config["Labels"]["org.opencontainers.image.version"] == "1.2.3"


def test_the_image_has_what_is_locked_and_no_tool(image: str) -> None:
    """Each package has the version of the lock; no tool of the development and no compiler is in it."""
    script = (
        "import glob, importlib.metadata as m, json, shutil\n"
        "there = m.distributions(path=glob.glob('/opt/mpsr/lib/python*/site-packages'))\n"
        "versions = {one.name.lower().replace('_', '-'): one.version for one in there}\n"
        "print(json.dumps([versions, [*filter(shutil.which, ['cc', 'gcc'])]]))"
    )
    packages, tools = json.loads(
        docker("run", "--rm", "--network", "none", "--entrypoint", "/opt/mpsr/bin/python3", image, "-c", script)
    )
    locked = dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert packages.pop("mpsr")
    assert {"click", "msgpack", "msgspec", "structlog", "uvloop"} <= packages.keys()
    assert packages.items() <= locked.items()
    assert not packages.keys() & {"hatchling", "pytest", "ruff"}
    assert not tools


@pytest.mark.parametrize(("tag", "uid"), [("web", 20001), ("jobs", 20002), ("printer", 0)])
def test_each_producer_arrives_as_who_it_is(composition: Composition, tag: str, uid: int) -> None:
    """
    Containers are known by their user, Docker's driver by the engine's; a process in another namespace has no process
    id here.
    """
    eventually(lambda: len(composition.messages("--tag", tag)) > 2, f"three messages of {tag}")
    messages = composition.messages("--tag", tag)
    assert {(one["pid"], one["uid"], one["gid"], one["comm"]) for one in messages} == {(0, uid, uid, "")}
    numbers = [int(str(one["record"].get("n", one["record"].get("log"))).removeprefix("line ")) for one in messages]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_who_is_not_in_the_group_may_not_send(composition: Composition) -> None:
    """Another user, even root without its capabilities, is refused by the socket's permissions."""
    for user in ("30000:30000", "0:0"):
        send = ["run", "--rm", "--network", "none", "--user", user, "--cap-drop", "ALL"]
        send += [
            "--volume",
            f"{composition.project}_run:/run/mpsr:ro",
            composition.image,
            "send",
            "--timeout",
            "0.1",
            "x",
        ]
        with pytest.raises(AssertionError, match="Permission denied"):
            docker(*send)


class Load:
    """The three services with other commands, and what they were given to send."""

    def __init__(self, composition: Composition) -> None:
        self._composition = composition
        self.lines: list[str] = []
        self.web = composition.begin("web", SENDER)
        self.jobs = composition.begin("jobs", "mpsr send --tag load.jobs --timeout 60 && echo acknowledged")
        self.printer = composition.begin("printer", "exec cat")
        self._all = (self.web, self.jobs, self.printer)

    def feed(self) -> None:
        """Give some lines to those that send what they read; the other sends all the time."""
        lines = [str(number) for number in range(len(self.lines), len(self.lines) + LINES_FED)]
        self.lines += lines
        for process in (self.jobs, self.printer):
            assert process.stdin is not None
            process.stdin.write("".join(f"{line}\n" for line in lines).encode())
            process.stdin.flush()

    def reached(self) -> tuple[int, ...]:
        """Return the last sequence number of each."""
        self.feed()
        filters = (("load.web",), ("load.jobs",), ("printer", "--grep", "^[0-9]+$"))
        last = [self._composition.messages("-n", "1", "--tag", *one) for one in filters]
        return tuple(found[0]["sequence"] if found else 0 for found in last)

    def has_passed(self, before: tuple[int, ...]) -> bool:
        """Whether each has come further, given more to send."""
        return all(map(gt, self.reached(), before))

    def is_on(self) -> bool:
        """Whether none has ended."""
        return all(process.poll() is None for process in self._all)

    def end(self) -> list[bytes]:
        """Let all come to their end, which must be a good one; return what they print."""
        said = [process.communicate(timeout=120)[0] for process in self._all]
        assert [process.returncode for process in self._all] == [0, 0, 0]
        return said


def test_a_hub_that_is_killed_under_load_has_everything_once_in_order(composition: Composition) -> None:
    """What was acknowledged before, during and after the death of the hub is in its journal once and in order."""
    load = Load(composition)
    for _ in range(KILLS):
        before = load.reached()
        eventually(partial(load.has_passed, before), "progress of all three")
        load.feed()
        docker("kill", composition.hub)
        assert load.is_on()
        load.feed()
        docker("start", composition.hub)
    sent, acknowledged, _ = load.end()

    assert acknowledged.split() == [b"acknowledged"]
    assert [one["record"]["n"] for one in composition.messages("--tag", "load.web")] == list(range(int(sent)))
    assert composition.in_hub("logs", "--tag", "load.jobs", "--output", "text").splitlines() == load.lines
    printed = [one["record"]["log"] for one in composition.messages("--tag", "printer")]
    assert [line for line in printed if line.isdigit()] == load.lines
    everything = composition.messages()
    assert all(one["sequence"] + 1 == two["sequence"] for one, two in pairwise(everything))
    assert not [one for one in everything if one["tag"] == "mpsr.loss"]


def test_a_hub_that_is_stopped_ends_well(composition: Composition) -> None:
    """`docker stop` ends it with code 0; its journal is whole, and the next container goes on with the volume."""
    hub = composition.hub
    docker("stop", "--time", "30", hub)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", hub) == "0"
    verify = ["run", "--rm", "--network", "none", "--volume", f"{composition.project}_journal:/var/lib/mpsr/journal"]
    assert docker(*verify, composition.image, "verify").endswith("all whole")
    docker("start", hub)
    eventually(lambda: docker("inspect", "--format", "{{.State.Health.Status}}", hub) == "healthy", "healthy")
    assert json.loads(composition.in_hub("call", "ping")) == "pong"
