"""`mpsr sinks` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import HubProcess, eventually, mpsr

pytestmark = pytest.mark.timeout(100, method="signal")  # one that hangs fails, and the run goes on


def test_sinks(tmp_path: Path) -> None:
    """Each sink is a row; an order changes one; a wrong order gets an error."""
    config = tmp_path / "hub.toml"
    config.write_text(f'[[sinks]]\ntype = "file"\nname = "a"\npath = "{tmp_path}/a.log"\n')
    with HubProcess(tmp_path, "--config", str(config)) as hub:
        socket = ("--socket", hub.socket)
        assert mpsr("sinks", "pause", "a", *socket).returncode == 0
        assert mpsr("send", *socket, "one").returncode == 0
        (row,) = map(json.loads, mpsr("sinks", *socket, "--output", "json").stdout.splitlines())
        assert (row["name"], row["lag"]["messages"]) == ("a", 1)
        head, line = mpsr("sinks", *socket).stdout.decode().splitlines()
        assert head.split()[:4] == ["name", "type", "path", "state"]
        assert line.split()[:4] == ["a", "file", f"{tmp_path}/a.log", "paused"]
        assert "1 messages, " in line
        assert "sink a: paused, 0 messages, 0 lost, 1 to deliver" in mpsr("stats", *socket).stdout.decode()
        moved = mpsr("sinks", "rewind", "a", "--to", "1", *socket)
        assert moved.stdout == b"mpsr: a continues with sequence 1\n"
        assert mpsr("sinks", "resume", "a", *socket).returncode == 0
        eventually(lambda: (tmp_path / "a.log").exists() and (tmp_path / "a.log").read_bytes())
        wrong = mpsr("sinks", "pause", "b", *socket)
        assert (wrong.returncode, b"there is no sink 'b' (there are: a)" in wrong.stderr) == (1, True)
        for args, words in ((("pause",), b"NAME"), (("pause", "a", "--to", "1"), b"--to"), (("stop", "a"), b"pause")):
            wrong = mpsr("sinks", *args, *socket)
            assert (wrong.returncode, words in wrong.stderr) == (2, True)
