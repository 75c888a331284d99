"""The programs beside the suite run, with the smallest figures: one that is broken is noticed when it breaks."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import spawn, tailing
from tests.docker import ratio


def run(module: Any, monkeypatch: pytest.MonkeyPatch, *args: str) -> None:
    monkeypatch.setattr(sys, "argv", [module.__name__, *args])
    module.main()


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
