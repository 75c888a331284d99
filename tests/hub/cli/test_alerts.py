"""`mpsr alerts` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import HubProcess, eventually, mpsr

pytestmark = pytest.mark.timeout(100, method="signal")  # one that hangs fails, and the run goes on

CONFIG = """
[[alerts]]
name = "disk"
level = "error"
count = 2
within = "1h"
"""


def test_alerts(tmp_path: Path) -> None:
    """Each alert is a row; one is silenced, also over a restart, and tested; when it would fire is shown."""
    config = tmp_path / "hub.toml"
    config.write_text(CONFIG)
    with HubProcess(tmp_path, "--config", str(config)) as hub:
        socket, dry = ("--socket", hub.socket), ("--dry-run", "--config", str(config), "--journal", hub.journal)
        assert mpsr("send", *socket, "-F", "level=error", "full", "fuller\nlines").returncode == 0
        eventually(lambda: hub.messages("mpsr.alert"))
        head, line = mpsr("alerts", *socket).stdout.decode().splitlines()
        assert head.split()[:4] == ["name", "by", "state", "firings"]
        assert line.split()[:4] == ["disk", "message", "open", "1"]
        silenced = mpsr("alerts", "silence", "disk", "2h", *socket).stdout
        assert silenced.startswith(b"mpsr: disk is silenced until 20")
        assert hub.stop() == 0
        hub.start()
        (row,) = map(json.loads, mpsr("alerts", *socket, "-o", "json").stdout.splitlines())
        assert (row["name"], row["firings"], row["silenced_until"] is None) == ("disk", 1, False)
        assert mpsr("alerts", "silence", "disk", "0s", *socket).stdout == b"mpsr: disk is not silenced\n"
        assert mpsr("alerts", "test", "disk", *socket).stdout.startswith(b"mpsr: disk has reported the test disk-0-")
        assert [found.record["test"] for found in hub.messages("mpsr.alert")] == [False, True]
        _, line = mpsr("alerts", *dry).stdout.decode().splitlines()
        assert (line.split()[3:6], line.split()[-1]) == (["2", "2", "2"], "fuller")
        (row,) = map(json.loads, mpsr("alerts", *dry, "--since", "1h", "-o", "json").stdout.splitlines())
        assert (row["alert"], row["first_sequence"], row["sequence"], row["text"]) == ("disk", 1, 2, "fuller\nlines")
        assert mpsr("alerts", *dry, "--since", "now", "-o", "json").stdout == b""
        wrong = mpsr("alerts", "test", "b", *socket)
        assert (wrong.returncode, b"there is no alert 'b' (there are: disk)" in wrong.stderr) == (1, True)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("silence", "disk"), b"needs a DURATION"),
        (("silence",), b"NAME"),
        (("test", "disk", "2h"), b"is for silence"),
        (("pause", "disk"), b"silence"),
        (("--since", "1d"), b"--since is for --dry-run"),
        (("test", "disk", "--dry-run"), b"not for test"),
        (("--dry-run",), b"there are no alerts"),
    ],
)
def test_wrong_usage(args: tuple[str, ...], words: bytes, tmp_path: Path) -> None:
    """It is an error that says how it is right."""
    wrong = mpsr(*("alerts", *args), "--socket", str(tmp_path / "s"), env={"MPSR_CONFIG": ""})
    assert (wrong.returncode, words in wrong.stderr) == (2, True), wrong.stderr
