"""hub.cli.cursorfile: the last message shown, kept between calls."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import click
import pytest

from hub.cli.cursorfile import CursorFile
from hub.cli.logs import logs

ID, OTHER = "0" * 31 + "a", "0" * 31 + "b"


@pytest.fixture(autouse=True)
def _command() -> object:
    """A usage error belongs to a command."""
    with click.Context(logs) as context:
        yield context


def test_it_goes_on(tmp_path: Path) -> None:
    """The sequence is that of the last call; nothing else is left in the folder; a link stays one."""
    path, link = tmp_path / "cursor", tmp_path / "link"
    link.symlink_to(path)
    assert CursorFile(str(link), ID).after == 0
    CursorFile(str(link), ID).save(7)
    assert (CursorFile(str(path), ID).after, path.read_text()) == (7, f"{ID} 7\n")
    assert CursorFile(str(path)).after == 7
    assert link.is_symlink()
    assert {each.name for each in tmp_path.iterdir()} == {"cursor", "link"}


def test_another_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sequence of another hub means nothing: that is reported, and reading begins at the beginning."""
    path = tmp_path / "cursor"
    CursorFile(str(path), ID).save(7)
    assert CursorFile(str(path), OTHER).after == 0
    assert "another journal" in capsys.readouterr().err


def test_a_follower_saves_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In between at most once a second, at the end in any case."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    path = tmp_path / "cursor"
    cursor = CursorFile(str(path), ID)
    for sequence in (1, 2):
        cursor.save(sequence, is_last=False)
    assert path.read_text().endswith(" 1\n")
    cursor.save(3)
    assert path.read_text().endswith(" 3\n")
    now += 1
    cursor.save(4, is_last=False)
    assert path.read_text().endswith(" 4\n")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old file stays, and nothing else is left."""
    path = tmp_path / "cursor"
    CursorFile(str(path), ID).save(7)

    def fsync(fd: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="full"):
        CursorFile(str(path), ID).save(8)
    assert (path.read_text(), len([*tmp_path.iterdir()])) == (f"{ID} 7\n", 1)


@pytest.mark.parametrize("text", ["", "x", f"{ID} ", f"{ID} -1", f"{ID} 1\nx", "\xff"])
def test_other_files(tmp_path: Path, text: str) -> None:
    """A file that is something else is not overwritten."""
    path = tmp_path / "cursor"
    path.write_text(text)
    with pytest.raises(click.UsageError, match="was not written by"):
        CursorFile(str(path), ID)
    assert path.read_text() == text


def test_places_without_a_file(tmp_path: Path) -> None:
    """A folder that is missing, and a folder in place of the file, are found before anything is shown."""
    for path in (tmp_path / "none" / "cursor", tmp_path):
        with pytest.raises(click.UsageError, match="--cursor-file"):
            CursorFile(str(path), ID)
