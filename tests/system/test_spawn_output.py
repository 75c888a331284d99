"""What `mpsr spawn` shows and keeps of its children's output: readers, order, levels, progress bars, tracebacks."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tty

import pytest

from tests.support import MPSR, PATIENCE_S, HubProcess, Running, eventually, mpsr

LINES = 20_005


@pytest.mark.parametrize(
    ("variables", "args", "is_coloured"),
    [
        ({"FORCE_COLOR": "1"}, [], True),
        ({"FORCE_COLOR": "1", "NO_COLOR": ""}, [], True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, [], False),
        ({"FORCE_COLOR": ""}, [], False),
        ({"NO_COLOR": "1"}, ["--color", "always"], True),
        ({}, ["--color"], True),
        ({"FORCE_COLOR": "1"}, ["--color", "never"], False),
        ({"FORCE_COLOR": "1"}, ["--no-color"], False),
        ({"FORCE_COLOR": "1"}, ["--color", "auto"], True),
    ],
)
def test_colours_are_forced_and_forbidden_as_elsewhere(
    hub: HubProcess, variables: dict[str, str], args: list[str], is_coloured: bool
) -> None:
    """
    A pipe gets colours with FORCE_COLOR, never with NO_COLOR; an empty variable counts as not set. An option wins.
    """
    command = [*MPSR, "spawn", "--socket", hub.socket, "--tag", "w", *args, "--", "echo", "x"]
    environ = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    ran = subprocess.run(command, capture_output=True, env=environ | variables, check=True, timeout=PATIENCE_S)
    assert (b"\x1b[" in ran.stdout) == is_coloured


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_a_slow_reader_of_a_non_blocking_output_misses_nothing(hub: HubProcess, kind: str) -> None:
    """Reading begins when the children have ended; all lines are shown, and the exit code is 0."""
    read_end, write_end = os.pipe() if kind == "pipe" else pty.openpty()
    if kind == "terminal":
        tty.setraw(write_end)
    os.set_blocking(write_end, False)
    command = ["spawn", "--socket", hub.socket, "--tag", "w", "--", "seq", str(LINES)]
    environ = {**os.environ, "NO_COLOR": "1"}
    with Running(*command, stdout=write_end, stderr=subprocess.PIPE, env=environ) as process:
        eventually(lambda: [one for one in hub.messages("w.1") if one.record.get("event") == "process.exited"])
        data = b""
        while b"w.1 ended" not in data:
            data += os.read(read_end, 1000)
        assert process.wait(PATIENCE_S) == 0
    numbers = [line.rpartition(b"| ")[2] for line in data.splitlines() if b" w.1 " in line and b"| " in line]
    assert [int(number) for number in numbers if number.isdigit()] == list(range(1, LINES + 1))
    os.close(read_end)
    os.close(write_end)


# A traceback on standard error in three writes, half a line in two; standard output goes on in between.
ORDER = """
import sys, time
def write(stream, text):
    stream.write(text); stream.flush(); time.sleep(0.02)
write(sys.stderr, "Traceback (most recent call last):\\n")
write(sys.stdout, "second\\n")
write(sys.stderr, "  File 'x', line 1\\n")
write(sys.stdout, "third\\n")
write(sys.stderr, "ValueError: 1\\n")
write(sys.stdout, "fourth\\n")
write(sys.stderr, "fif")
write(sys.stdout, "sixth\\n")
write(sys.stderr, "th\\n")
write(sys.stdout, "seventh\\n")
"""


def test_the_order_is_that_of_the_first_bytes(hub: HubProcess) -> None:
    """
    A joined message and one that is written in parts have place and time of their first byte.

    One run of five must show it: on a busy machine the child may pause for longer than half a line is waited for.
    """
    expected = [
        "process.started", "Traceback (most recent call last):", "second", "third", "fourth", "fifth", "sixth",
        "seventh", "process.exited",
    ]  # fmt: skip
    for number in range(5):
        tag = f"w{number}"
        done = mpsr("spawn", "--socket", hub.socket, "--tag", tag, "--", sys.executable, "-c", ORDER)
        assert done.returncode == 0
        messages = hub.messages(f"{tag}.1")
        texts = [str(one.record.get("message", one.record.get("event"))).split("\n")[0] for one in messages]
        assert sorted(texts) == sorted(expected)
        if texts == expected:
            break
    assert texts == expected
    times = [one.time for one in messages]
    assert times == sorted(times)
    shown = [line.rpartition(b"| ")[2] for line in done.stdout.splitlines()]
    assert shown[3:6] == [b"ValueError: 1", b"second", b"third"]


@pytest.mark.parametrize("text", ["half", "Traceback (most recent call last):\n  File"])
def test_half_a_message_does_not_stop_the_other_stream(hub: HubProcess, text: str) -> None:
    """Lines of standard output arrive while a message on standard error is not complete."""
    script = "import sys; sys.stderr.write(sys.argv[1]); sys.stderr.flush(); print('out', flush=True); input()"
    command = ["spawn", "--socket", hub.socket, "--tag", "w", "--stdin", "w", "--", sys.executable, "-c", script]
    with Running(*command, text, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        eventually(lambda: "out" in [one.record.get("message") for one in hub.messages("w.1")])
        process.communicate(b"\n", PATIENCE_S)
    assert process.returncode == 0


def test_levels_of_the_output(hub: HubProcess) -> None:
    """`mpsr logs --level error` finds a traceback, a stack and a line after `<3>`, and nothing else of the output."""
    script = """printf '<3>disk is full\\n<6>all is well\\nplain\\n'; printf 'Error: x\\n    at f (x.js:1:2)\\n' >&2
      exec "$0" -c '1 / 0'"""
    done = mpsr("spawn", "--socket", hub.socket, "--tag", "w", "--", "sh", "-c", script, sys.executable)
    assert done.returncode == 1
    found = mpsr("logs", "--journal", hub.journal, "--level", "error", "--output", "json")
    records = [json.loads(line)["record"] for line in found.stdout.splitlines()]
    assert [record["event"] for record in records if "event" in record] == ["process.exited"]
    messages = [record["message"].split("\n") for record in records if "message" in record]
    assert [(lines[0], lines[-1]) for lines in sorted(messages)] == [
        ("Error: x", "    at f (x.js:1:2)"),
        ("Traceback (most recent call last):", "ZeroDivisionError: division by zero"),
        ("disk is full", "disk is full"),
    ]


def test_a_progress_bar_is_many_messages(hub: HubProcess) -> None:
    """Each state of a megabyte of progress is a message of its own."""
    script = "import sys\nfor n in range(20_000): sys.stdout.write('\\r%40d%%  ' % n)\nprint('\\ndone')"
    assert mpsr("spawn", "--socket", hub.socket, "-q", "--tag", "w", "--", sys.executable, "-c", script).returncode == 0
    texts = [str(one.record["message"]).strip() for one in hub.messages("w.1")[1:-1]]
    assert texts == [*(f"{number}%" for number in range(20_000)), "done"]
