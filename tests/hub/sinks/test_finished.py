"""hub.sinks.finished: which files are compressed and deleted, and which are left alone."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.entries import NS
from hub.sinks import finished as module
from hub.sinks.finished import Finished
from hub.sinks.kinds import File
from hub.sinks.pathtemplate import PathTemplate
from hub.sinks.values import Span, Template
from tests.hub.sinks.delivering import TABLE
from tests.hub.sinks.test_pathtemplate import NOON

STAMP = ".20261127T051400Z"


def finished(template: str, **table: Any) -> Finished:
    made: File = msgspec.structs.replace(TABLE, path=Template(template), **table)
    return Finished(made, PathTemplate(template), lambda: None)


def write(folder: Path, *names: str, size: int = 1) -> None:
    """Write files, each a second younger than the one before."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        os.utime(path, ns=(0, NOON - (len(names) - number) * NS))


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_rotated_files_are_compressed(tmp_path: Path) -> None:
    """Only those with a stamp; the file that is written to, and those of others, are left alone."""
    write(tmp_path, "a.log", f"a.log{STAMP}", "b.log", "notes.txt", f"c.txt{STAMP}", f"sub/a.log{STAMP}")
    (tmp_path / f"d.log{STAMP}").symlink_to(tmp_path / "notes.txt")
    finished(f"{tmp_path}/{{tag}}.log", compress="zstd").tidy(live=[str(tmp_path / "a.log")], received=None, now=NOON)
    assert names(tmp_path) == [
        "a.log", f"a.log{STAMP}.zst", "b.log", f"c.txt{STAMP}", f"d.log{STAMP}", "notes.txt", f"sub/a.log{STAMP}",
    ]  # fmt: skip


def test_half_a_compressed_file_is_deleted(tmp_path: Path) -> None:
    """A kill has left it, and somebody has removed the plain one. Other temporary files stay."""
    write(tmp_path, "a.log.zst.tmp", f"a.log{STAMP}.gz.tmp", "a.log.tmp", "b.txt.gz.tmp")
    finished(f"{tmp_path}/{{tag}}.log").tidy(live=[], received=None, now=NOON)
    assert names(tmp_path) == ["a.log.tmp", "b.txt.gz.tmp"]


def test_files_of_earlier_days_are_finished(tmp_path: Path) -> None:
    """Once messages of a later day are delivered; in the folders of all tags, and nowhere else."""
    template = f"{tmp_path}/{{tag}}/{{date}}.log"
    write(tmp_path, "a/2026-11-26.log", "a/2026-11-27.log", "b/2026-11-25.log", "b/c/2026-11-26.log", "2026-11-26.log")
    packing = finished(template, compress="gzip")
    packing.tidy(live=[], received=None, now=NOON)
    assert not any(name.endswith(".gz") for name in names(tmp_path))
    packing.tidy(live=[str(tmp_path / "b/2026-11-25.log")], received=NOON, now=NOON)
    assert names(tmp_path) == [
        "2026-11-26.log", "a/2026-11-26.log.gz", "a/2026-11-27.log", "b/2026-11-25.log", "b/c/2026-11-26.log",
    ]  # fmt: skip


def test_a_compressed_file_is_not_replaced(tmp_path: Path) -> None:
    """A second file of the same day gets a stamp; what a kill has left beside its compressed copy is removed."""
    template = f"{tmp_path}/{{date}}.log"
    write(tmp_path, "2026-11-26.log.zst", "2026-11-26.log")
    finished(template, compress="zstd").tidy(live=[], received=NOON, now=NOON)
    first, second = names(tmp_path)
    assert first.endswith("Z.zst")
    assert second == "2026-11-26.log.zst"
    write(tmp_path, "2026-11-25.log", "2026-11-25.log.zst", size=7)
    os.utime(tmp_path / "2026-11-25.log", ns=(0, (tmp_path / "2026-11-25.log.zst").stat().st_mtime_ns))
    finished(template, compress="zstd").tidy(live=[], received=NOON, now=NOON)
    assert "2026-11-25.log" not in names(tmp_path)


@pytest.mark.parametrize(
    ("table", "kept"),
    [
        ({}, "123456"), ({"retain": Span(4)}, "3456"), ({"retain_size": 30}, "456"), ({"retain_size": 0}, ""),
        ({"retain_size": 50, "retain": Span(2)}, "56"), ({"retain_size": 10, "retain": Span(90)}, "6"),
    ],
)  # fmt: skip
def test_the_oldest_are_deleted(tmp_path: Path, table: dict[str, Any], kept: str) -> None:
    """Those that are older than the limit, and the oldest above the limit of size; never the live one."""
    write(tmp_path, *(f"a.log.2026112{number}T000000Z" for number in range(1, 7)), size=10)
    write(tmp_path, "a.log", size=1000)
    os.utime(tmp_path / "a.log", ns=(0, 0))
    finished(f"{tmp_path}/a.log", **table).tidy(live=[str(tmp_path / "a.log")], received=NOON, now=NOON)
    assert names(tmp_path) == ["a.log", *(f"a.log.2026112{number}T000000Z" for number in kept)]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_to_compress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """What is due is deleted all the same; the others stay as they are, until there is room."""
    write(tmp_path, *(f"a.log.2026112{day}T000000Z" for day in range(1, 5)), size=10)
    tried = []

    def fail(plain: str, *_: object) -> None:
        tried.append(plain)
        raise OSError(number, os.strerror(number))

    files = finished(f"{tmp_path}/a.log", compress="zstd", retain=Span(2))
    with monkeypatch.context() as patch:
        patch.setattr(module, "pack", fail)
        files.tidy(live=[], received=NOON, now=NOON)
    assert names(tmp_path) == ["a.log.20261123T000000Z", "a.log.20261124T000000Z"]
    assert len(tried) == 1
    files.tidy(live=[], received=NOON, now=NOON)
    assert names(tmp_path) == ["a.log.20261123T000000Z.zst", "a.log.20261124T000000Z.zst"]


def test_a_fault_of_compression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is no lack of space is a fault of the sink."""

    def fail(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(module, "pack", fail)
    write(tmp_path, f"a.log{STAMP}")
    with pytest.raises(PermissionError):
        finished(f"{tmp_path}/a.log", compress="gzip").tidy(live=[], received=NOON, now=NOON)


def test_a_stamp_is_free(tmp_path: Path) -> None:
    """Two rotations in one second have different names, also if the first one is compressed."""
    files = finished(f"{tmp_path}/a.log")
    path = str(tmp_path / "a.log")
    assert files.stamped(path, NOON) == f"{path}.20261127T120000Z"
    write(tmp_path, "a.log.20261127T120000Z.zst", "a.log.20261127T120000Z-1")
    assert files.stamped(path, NOON) == f"{path}.20261127T120000Z-2"
