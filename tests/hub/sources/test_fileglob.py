"""hub.sources.fileglob: which folders and names a glob leads to."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from hub.sources import fileglob
from hub.sources.fileglob import Exclusion, Glob, TooManyFolders
from hub.sources.filelink import LinkRefused
from hub.sources.kinds import EXCLUDE
from tests.users import ALICE, NEEDS_ROOT


def folders(glob: str) -> list[str]:
    """Return the folders that *glob* leads to."""
    return list(Glob(glob).folders(set()))


def test_folders(tmp_path: Path) -> None:
    """A star is one name, two are any folders; hidden ones are none."""
    for name in ("a/x/deep", "b/x", ".hidden/x"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").write_text("")
    base = str(tmp_path)
    assert folders(f"{base}/a/*.log") == [f"{base}/a"]
    assert folders(f"{base}/*/x/*.log") == [f"{base}/a/x", f"{base}/b/x"]
    assert folders(f"{base}/**/*.log") == [base, *(f"{base}/{each}" for each in ("a", "a/x", "a/x/deep", "b", "b/x"))]
    assert folders(f"{base}/**/deep/*") == [
        f"{base}/deep",
        *(f"{base}/{each}/deep" for each in ("a", "a/x", "a/x/deep", "b", "b/x")),
    ]


def test_where_folders_may_appear(tmp_path: Path) -> None:
    """The folders that were listed, and the nearest one above a folder that is missing, are to be watched."""
    (tmp_path / "a").mkdir()
    walked: set[str] = set()
    list(Glob(f"{tmp_path}/*/x/*.log").folders(walked))
    assert walked == {str(tmp_path), f"{tmp_path}/a"}
    walked = set()
    list(Glob(f"{tmp_path}/none/such/*.log").folders(walked))
    assert walked == {str(tmp_path)}


def test_whole_paths() -> None:
    """A path fits if each of its names does."""
    for glob, path, fits in (
        ("/var/log/*.log", "/var/log/a.log", True),
        ("/var/log/*.log", "/var/log/b/a.log", False),
        ("/var/log/*.log", "/var/log/.a.log", False),
        ("/var/log/**/*.log", "/var/log/a.log", True),
        ("/var/log/**/*.log", "/var/log/b/c/a.log", True),
        ("/var/*/a?[12].log", "/var/x/ab1.log", True),
        ("/var/*/a?[12].log", "/var/x/y/ab1.log", False),
    ):
        assert Glob(glob).has(path) is fits, (glob, path)


def test_names_of_positions() -> None:
    """Each glob has a position of its own."""
    assert Glob("/a/*").name != Glob("/b/*").name
    assert Glob("/a/*").name == Glob("/a/*").name
    assert Glob("/a/b.1").is_plain
    assert not Glob("/a/b.[1]").is_plain


def test_the_default_exclusion() -> None:
    """Names that rotation makes are left out, names of logs with dates in them are not."""
    exclusion = Exclusion(EXCLUDE)
    for name in ("a.log.1", "a.log.12", "a.log.2.gz", "a.log-20261127", "0.log.20261127-101010", "a.log~", "a.log.old"):
        assert exclusion.has("/var/log", name), name
    for name in ("a.log", "a-20261127.log", "catalina.2026-11-27.log", "pod_ns_app-0123.log", "access.2026-11-27"):
        assert not exclusion.has("/var/log", name), name


def test_exclusion_by_path() -> None:
    """A glob with a slash is one of whole paths."""
    exclusion = Exclusion(["/var/log/nginx/*", "debug*"])
    assert exclusion.has("/var/log/nginx", "a.log")
    assert exclusion.has("/x", "debug.log")
    assert not exclusion.has("/var/log", "a.log")
    assert not Exclusion([]).has("/", "a")


@NEEDS_ROOT
def test_links_to_folders(tmp_path: Path) -> None:
    """A link to a folder is followed, unless another user leads us to what is not theirs; that is also so by name."""
    (tmp_path / "real").mkdir()
    (tmp_path / "links").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "links" / "ours")
    os.symlink(tmp_path / "real", tmp_path / "links" / "theirs")
    os.lchown(tmp_path / "links" / "theirs", ALICE, ALICE)
    assert folders(f"{tmp_path}/links/*/*.log") == [f"{tmp_path}/links/ours"]
    assert folders(f"{tmp_path}/links/**/*.log") == [f"{tmp_path}/links"]
    assert folders(f"{tmp_path}/link*/ours/*.log") == [f"{tmp_path}/links/ours"]
    for glob in (f"{tmp_path}/links/theirs/*.log", f"{tmp_path}/link*/theirs/*.log"):
        with pytest.raises(LinkRefused) as error:
            folders(glob)
        assert error.value.filename == f"{tmp_path}/links/theirs"
    os.symlink(tmp_path / "none", tmp_path / "links" / "nowhere")
    assert folders(f"{tmp_path}/links/nowhere/*.log") == [f"{tmp_path}/links/nowhere"]


def test_an_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders that can be read are found; then the error is raised."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    scandir = os.scandir

    def failing(path: str) -> object:
        if path == f"{tmp_path}/a":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    walk = Glob(f"{tmp_path}/*/**/*.log").folders(set())
    assert [next(walk), next(walk)] == [f"{tmp_path}/a", f"{tmp_path}/b"]
    with pytest.raises(PermissionError):
        next(walk)


@NEEDS_ROOT
def test_many_folders_of_one_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user has half of the folders, of all globs together; those of others are found."""
    monkeypatch.setattr(fileglob, "FOLDERS_MAX", 20)
    for number in range(15):
        (tmp_path / "a" / str(number)).mkdir(parents=True)
        os.chown(tmp_path / "a" / str(number), ALICE, ALICE)
    (tmp_path / "b").mkdir()
    owned: Counter[int] = Counter()
    walk = Glob(f"{tmp_path}/**/*.log").folders(set(), owned)
    found: list[str] = []
    with pytest.raises(TooManyFolders) as error:
        found += walk
    assert error.value.filename == f"{tmp_path}/a"
    assert [path for path in found if os.path.dirname(path) == str(tmp_path)] == [f"{tmp_path}/a", f"{tmp_path}/b"]
    assert (len(found), owned[ALICE]) == (3 + 10, 10)
    with pytest.raises(TooManyFolders):
        list(Glob(f"{tmp_path}/a/*/*.log").folders(set(), owned))
