"""Docker's own log drivers, in a real engine: what a container prints reaches the hub on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.engine import docker
from tests.support import HubProcess, eventually

pytestmark = pytest.mark.timeout(600)

LONG = 40_000  # Docker splits a line at 16 KiB
SCRIPT = f"""
printf '%s\\n' one ' two  ' '' '{{"n": 3}}' ünï
echo err >&2
head -c {LONG} /dev/zero | tr '\\0' x; echo
printf 'no newline'
"""
PRINTED = ["one", " two  ", '{"n": 3}', "ünï", "x" * LONG, "no newline"]
LINES, KILL_AFTER, LINES_BEFORE = 300, 50, 200
SLOWLY = f"""
for n in $(seq {LINES}); do
    echo $n; sleep 0.002
    while [ $n = {LINES_BEFORE} ] && [ ! -e /killed ]; do sleep 0.01; done
done
"""
"""The last lines wait until the hub was killed."""


@pytest.fixture
def hub(folder: Path) -> Iterator[HubProcess]:
    """A hub that the engine's daemon, which is root, can reach."""
    with HubProcess(folder) as hub:
        yield hub


def start(base: str, driver: str, script: str, **options: str) -> str:
    """Start a container whose output goes through *driver*; return its id."""
    chosen = [f"--log-opt={name.replace('_', '-')}={value}" for name, value in options.items()]
    run = ["run", "--detach", "--network", "none", f"--log-driver={driver}", *chosen]
    return docker(*run, "--env", "LC_ALL=C.UTF-8", base, "sh", "-c", script)


def finish(container: str) -> None:
    """Wait for a container's end, which comes after its last line was sent, and remove it."""
    assert docker("wait", container) == "0"
    docker("rm", container)


def test_fluentd(base: str, hub: HubProcess) -> None:
    """Each line is one message, a long one too, of the stream and container that the driver names."""
    container = start(base, "fluentd", SCRIPT, fluentd_address=f"unix://{hub.socket}", tag="app.web")
    finish(container)
    hub.stop()
    found = [message.record for message in hub.messages("app.web")]
    assert [record["log"] for record in found if record["source"] == "stdout"] == [*PRINTED[:2], "", *PRINTED[2:]]
    assert [record["log"] for record in found if record["source"] == "stderr"] == ["err"]
    assert {record["container_id"] for record in found} == {container}
    marked = [record["log"] for record in found if any(name.startswith("partial_") for name in record)]
    assert marked == ["no newline"]  # to Docker, the first piece of a line of which no more came


def test_fluentd_and_a_hub_that_is_killed(base: str, hub: HubProcess) -> None:
    """With acknowledgements, every line is there once and in order, though the hub was killed in the middle."""
    options = {"fluentd_address": f"unix://{hub.socket}", "tag": "app.web"}
    options |= {"fluentd_request_ack": "true", "fluentd_retry_wait": "50ms"}
    container = start(base, "fluentd", SLOWLY, **options)
    eventually(lambda: len(hub.messages("app.web")) >= KILL_AFTER)
    hub.kill()
    docker("exec", container, "touch", "/killed")
    assert len(hub.messages("app.web")) <= LINES_BEFORE
    hub.start()
    finish(container)
    hub.stop()
    assert [message.record["log"] for message in hub.messages("app.web")] == [str(n) for n in range(1, LINES + 1)]


@pytest.mark.parametrize("form", ["rfc3164", "rfc5424micro"])
def test_syslog(base: str, hub: HubProcess, form: str) -> None:
    """Each line is a message with level and program; this driver does not mark the pieces of a long line."""
    options = {"syslog_address": f"unix://{hub.socket}", "syslog_format": form, "tag": "web"}
    finish(start(base, "syslog", SCRIPT, **options))
    hub.stop()
    found = [message.record for message in hub.messages("syslog")]
    out = [record["message"] for record in found if record["level"] == "info"]
    assert [record["message"] for record in found if record["level"] == "error"] == ["err"]
    assert [out[0], *out[-1:]] == ["one", "no newline"]
    assert "".join(text for text in out if set(text) == {"x"}) == "x" * LONG
    assert {record["app"] for record in found} == {"web"}
    assert {message.peer.uid for message in hub.messages("syslog")} == {os.geteuid()}
