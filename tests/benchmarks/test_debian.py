"""Packages are unpacked with what they need, and what cannot be had is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import debian

SIMULATED = "Reading...\nInst libx (1.0 Debian [amd64])\nInst y-server (2.0 Debian [amd64])\nConf libx (1.0)\n"


def test_a_package_is_unpacked_with_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What apt would install is downloaded and unpacked, and nothing is installed."""
    monkeypatch.setattr(debian, "DEBIAN", tmp_path / "env" / "debian")
    commands: list[list[str]] = []

    def run(command: list[str]) -> str:
        commands.append(command)
        if command[1] == "download":
            for name in command[-2:]:
                Path(f"{name}.deb").touch()
        return SIMULATED

    before = Path.cwd()
    assert debian.unpack("y-server", run)
    assert Path.cwd() == before
    assert commands[0][-2:] == ["install", "y-server"]
    assert "--simulate" in commands[0]
    assert commands[1][-2:] == ["libx", "y-server"]
    assert sorted(Path(command[2]).name for command in commands[2:]) == ["libx.deb", "y-server.deb"]
    assert {command[0] for command in commands[2:]} == {"dpkg"}


@pytest.mark.parametrize("failing", ["--simulate", "download"])
def test_a_package_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """No list of packages, or no network: the answer is no."""
    monkeypatch.setattr(debian, "DEBIAN", tmp_path / "env" / "debian")
    assert not debian.unpack("y-server", lambda command: None if failing in command else SIMULATED)
