"""The programs beside the suite run, with the smallest figures: one that is broken is noticed when it breaks."""

from __future__ import annotations

import json
import re
import resource
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import against_tokio, figures, spawn, tailing
from tests.docker import ratio

HERE = str(Path(__file__).parent)  # most probably on a disk; `mpsr bench` refuses a temporary folder in memory


def run(module: Any, monkeypatch: pytest.MonkeyPatch, *args: str) -> None:
    monkeypatch.setattr(sys, "argv", [module.__name__, *args])
    module.main()


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """What `mpsr bench` reports of a very short run of single acknowledged messages."""
    return against_tokio.ours(HERE, 130, 0.1, "--producers", "1", "--chunk", "1")


def test_against_tokio(tmp_path: Path, report: dict[str, Any], monkeypatch: pytest.MonkeyPatch,
                       capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """It prints a row for each way, with ratios to the other program's figure of the same round."""
    other = tmp_path / "tokio"
    other.write_text("#!/bin/sh\necho '{\"messages_per_s\": 2000000}'\n")
    other.chmod(0o755)
    monkeypatch.setattr(against_tokio, "ours", lambda *args: {**report, "messages_per_s": 5_000_000})
    run(against_tokio, monkeypatch, "--tokio", str(other), "--rounds", "2", "--folder", HERE)
    lines = capsys.readouterr().out.splitlines()
    assert "| tokio read | 2.00 | 1.00 | | | | |" in lines
    assert [line.split(" | ")[1:3] for line in lines if "chunks of" in line] == [["5.00", "2.50"]] * 2


def test_figures(tmp_path: Path, report: dict[str, Any], monkeypatch: pytest.MonkeyPatch,
                 capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """Each figure is measured and printed."""
    for name, value in {"SENDS": 1, "PINGS": 20, "IDLE": 120, "LONE": 3, "STORED": 3000, "READ": 2000}.items():
        monkeypatch.setattr(figures, name, value)
    monkeypatch.setattr(resource, "setrlimit", lambda *args: None)
    monkeypatch.setattr(figures, "drop_caches", lambda: False)
    monkeypatch.setattr(figures, "ours", lambda *args: {**report, "send_us": 1.0})
    run(figures, monkeypatch, "--folder", str(tmp_path), "--seconds", "0.1")
    shown = capsys.readouterr().out
    assert "memory with 21 idle connections" in shown
    assert len(re.findall(r"event loop stall under full load", shown)) == 2
    assert len(re.findall(r"^logs --.* M/s", shown, re.MULTILINE)) == 6
    assert re.search(r"ring full and expiring, against an empty journal +1\.00 x", shown)


def test_a_long_stall_counts_by_its_time() -> None:
    """One stall of a second beside a thousand looks that were in time takes half of the time."""
    late = [0.0] * 1000 + [1.0]
    assert [figures.late_for(late, part) for part in (0.4, 0.6, 0.999)] == [0.0, 1.0, 1.0]


def test_the_tokio_program_needs_cargo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without cargo, the program ends with a line that says what is missing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="cargo is missing"):
        against_tokio.build_tokio()


def test_spawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It measures `mpsr spawn` with and without output."""
    monkeypatch.setattr(spawn, "measure", lambda name, *args: 1000 / spawn.with_mpsr(name, *args[:2]))
    run(spawn, monkeypatch, "--lines", "50", "--rounds", "1", "--honcho", "", "--folder", str(tmp_path))
    assert json.loads(capsys.readouterr().out).keys() == {"mpsr_quiet_lines_s", "mpsr_shown_lines_s"}


def test_tailing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It measures files with lines, and idle ones."""
    monkeypatch.setattr(tailing, "QUIET_S", 0)
    small = ("--lines", "4000", "--files", "2", "--rounds", "1", "--idle", "10", "--seconds", "0.1")
    run(tailing, monkeypatch, "--folder", str(tmp_path), *small)
    read, idle = map(json.loads, capsys.readouterr().out.splitlines())
    assert (read["lines"], idle["idle_files"]) == (4000, 10)


def test_docker_ratio(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It compares the median of the container's runs with that of the host's."""

    def figure(rate: int) -> str:
        return json.dumps({"messages_per_s": rate, "hub_cpu_ns_per_message": 100})

    monkeypatch.setattr(ratio, "run", lambda command, timeout: figure(2000))
    monkeypatch.setattr(ratio, "docker", lambda *args, **options: figure(1000) if args[0] == "run" else "")
    run(ratio, monkeypatch, "image", "--runs", "1")
    assert re.search(r"^ratio 0\.50, load", capsys.readouterr().out, re.MULTILINE)
