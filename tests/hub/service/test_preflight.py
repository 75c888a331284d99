"""hub.service.preflight: finds what the start would refuse, without a start."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from hub.errors import SocketError
from hub.service.preflight import check_start
from hub.service.settings import load
from hub.socketfile import SocketFile


@pytest.mark.parametrize("path", ["shared/s", "shared/new/s", "file/s", "file/new/s"])
def test_a_folder_that_will_not_do(tmp_path: Path, path: str) -> None:
    """The check refuses what the start refuses, and makes nothing."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    (tmp_path / "file").touch()
    config = load({"socket": str(tmp_path / path), "journal": str(tmp_path / "journal")}).config
    with pytest.raises(SocketError) as of_check:
        check_start(config)
    with pytest.raises(SocketError) as of_start:
        SocketFile.bind(config.socket)
    if path.startswith("shared"):
        assert str(of_check.value) == str(of_start.value)
        assert "shared can be written by everybody" in str(of_check.value)
    assert sorted(os.listdir(tmp_path)) == ["file", "shared"]
    assert os.listdir(tmp_path / "shared") == []
    check_start(msgspec.structs.replace(config, socket=str(tmp_path / "new/s")))
