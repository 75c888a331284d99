"""`mpsr verify` as a user runs it: a whole journal, and a damaged one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hub.cli import main
from hub.journal.files import DiskFiles
from hub.journal.segment import list_segments, segment_name
from tests.support import HubProcess, mpsr, read_messages

pytestmark = pytest.mark.timeout(100, method="signal")  # one that hangs fails, and the run goes on


def test_verify_counts_and_finds_the_faults(hub: HubProcess) -> None:
    """`verify` counts a whole journal with exit code 0, and names every fault with exit code 1."""
    for number in range(5):
        mpsr("send", "--socket", hub.socket, f"message {number}")
    done = mpsr("verify", "--journal", hub.journal)
    assert (done.returncode, done.stdout.startswith(b"5 messages in 5 batches")) == (0, True)
    hub.stop()
    segment = Path(hub.journal) / segment_name(list_segments(DiskFiles(hub.journal))[0])
    data = bytearray(segment.read_bytes())
    for damaged in b"message 1", b"message 3":
        data[data.index(damaged)] ^= 1
    segment.write_bytes(data)
    done = mpsr("verify", "--journal", hub.journal)
    first, second = done.stderr.splitlines()
    summary = b"3 messages in 3 batches, 1 segment: 2 faults, the rest is whole\n"
    assert (done.returncode, done.stdout) == (1, summary)
    assert b"sequences 2 to 2 are missing" in first
    assert b"sequences 4 to 4 are missing" in second
    shown = [message.record.get("message") for message in read_messages(hub.journal)]
    assert shown == ["message 0", None, "message 2", None, "message 4"]


def test_verify_clears_its_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal, nothing of the progress line is left beside the result."""
    with HubProcess(tmp_path) as hub:
        lines = b"".join(b"%d\n" % number for number in range(3000))
        assert mpsr("send", "--socket", hub.socket, stdin=lines).returncode == 0
    monkeypatch.setattr("hub.journal.verify.PROGRESS_BATCHES", 1)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(SystemExit):
        main(["verify", "--journal", hub.journal])
    output = capsys.readouterr()
    assert output.err.count("messages checked") > 0
    assert output.err.endswith(" messages checked\r\x1b[K")
    assert output.out.startswith("3000 messages in ")
