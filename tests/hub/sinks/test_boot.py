"""hub.sinks.boot: a name for this boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.sinks import boot as module
from hub.sinks.boot import boot_id


def test_it_is_the_same_until_the_next_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel has it; without one, each process has its own."""
    (tmp_path / "boot_id").write_bytes(b"8a-1\n")
    monkeypatch.setattr(module, "_BOOT_ID", str(tmp_path / "boot_id"))
    assert boot_id() == b"8a-1"
    monkeypatch.setattr(module, "_BOOT_ID", str(tmp_path / "absent"))
    assert boot_id() == boot_id()
    assert len(boot_id()) == 16
