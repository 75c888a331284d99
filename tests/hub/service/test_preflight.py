"""hub.service.preflight: finds what the start would refuse, without a start."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hub.errors import JournalError, MpsrError, SocketError, SourceError
from hub.journal.block import SegmentHeader, pack_segment_header
from hub.journal.journal import Journal
from hub.journal.segment import segment_name
from hub.natsplace import ServerUrl
from hub.paths import AbsolutePath
from hub.service import preflight
from hub.service.config import Config
from hub.service.preflight import check_sources, check_start, notes_on_sources
from hub.service.settings import load
from hub.socketfile import SocketFile
from hub.sources.kinds import Fifo, Jetstream, Journald
from hub.sources.values import Place
from tests.journald import script
from tests.users import ALICE, NEEDS_ROOT, as_user, open_folder

MIB = 1 << 20


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


def config_in(folder: Path, **settings: object) -> Config:
    return load(
        {"socket": str(folder / "s"), "journal": str(folder / "j"), **{key: str(v) for key, v in settings.items()}}
    ).config


def start(config: Config) -> None:
    """Do what a start does for its journal and its socket."""

    async def open_journal() -> None:
        journal = await Journal.open(config.journal, retain_bytes=config.journal_size)
        await journal.close()

    SocketFile.bind(config.socket, mode=config.mode, group=config.group).close()
    asyncio.run(open_journal())


def listed(folder: Path) -> list[tuple[str, int, int]]:
    paths = sorted(folder.rglob("*"))
    return [(str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths]


def refused(config: Config, folder: Path) -> str:
    """Return the error of the check, which changes nothing, and which a start would meet, too."""
    before = listed(folder)
    with pytest.raises(MpsrError) as of_check:
        check_start(config)
    assert listed(folder) == before
    with pytest.raises(type(of_check.value)):
        start(config)
    return str(of_check.value)


@pytest.mark.parametrize("name", ["s", "s~"])
def test_something_else_has_the_name_of_the_socket(tmp_path: Path, name: str) -> None:
    """A file at the socket's path, or at the name that a start uses before, is refused."""
    (tmp_path / name).touch()
    assert "a file is already there" in refused(config_in(tmp_path), tmp_path)
    check_start(msgspec.structs.replace(config_in(tmp_path), socket=str(tmp_path / "other")))


def test_a_lock_that_cannot_be_opened(tmp_path: Path) -> None:
    """A link at the path of a lock is refused."""
    (tmp_path / "s.lock").symlink_to("elsewhere")
    assert "s.lock is not a file" in refused(config_in(tmp_path), tmp_path)
    (tmp_path / "s.lock").unlink()
    (tmp_path / "j").mkdir()
    (tmp_path / "j/lock").symlink_to("elsewhere")
    assert "j/lock is not a file" in refused(config_in(tmp_path), tmp_path)


def test_a_journal_that_cannot_be_continued(tmp_path: Path) -> None:
    """A newer format, and a segment under the name of another, are refused."""
    (tmp_path / "j").mkdir()
    segment = tmp_path / "j" / segment_name(7)
    segment.write_bytes(pack_segment_header(SegmentHeader(999, bytes(16), 7, 0, 0, b"")))
    assert "version 999" in refused(config_in(tmp_path), tmp_path)
    segment.rename(segment.with_name(segment_name(8)))
    assert "holds another segment" in refused(config_in(tmp_path), tmp_path)


def test_a_journal_that_is_in_use_is_valid(tmp_path: Path) -> None:
    """The configuration of a hub that runs is valid."""
    config = config_in(tmp_path)

    async def check_beside() -> None:
        journal = await Journal.open(config.journal)
        socket_file = SocketFile.bind(config.socket)
        check_start(config)
        socket_file.close()
        await journal.close()

    asyncio.run(check_beside())


@NEEDS_ROOT
def test_files_and_groups_of_others() -> None:
    """Another user's folder, lock or segment, and a group that is not ours, are refused as by a start."""
    with open_folder() as folder:
        start(config_in(folder))
        text = as_user(ALICE, lambda: refused(config_in(folder), folder))
        assert f"Permission denied: {folder}" in text
        own = folder / "own"
        own.mkdir()
        os.chown(own, ALICE, ALICE)
        assert as_user(ALICE, lambda: check_start(config_in(own))) == "None"
        text = as_user(ALICE, lambda: refused(config_in(own, group=0), own))
        assert "Operation not permitted: group 0 (choose a --group of yours)" in text
        assert as_user(ALICE, lambda: check_start(config_in(own, group=7)), groups=[7]) == "None"
        assert as_user(ALICE, lambda: check_start(config_in(own, group=0), is_socket_inherited=True)) == "None"
        for name in ("j/lock", f"j/{segment_name(1)}", "s.lock"):
            as_user(ALICE, lambda: start(config_in(own)))
            os.chown(own / name, 0, 0)
            os.chmod(own / name, 0o600)
            assert f"Permission denied: {own / name}" in as_user(ALICE, lambda: refused(config_in(own), own))
            os.unlink(own / name)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 20 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-o", f"size={20 * MIB},mode=0700"]
    if subprocess.run(["mount", "-t", "tmpfs", *options, "none", str(folder)], check=False).returncode:
        pytest.skip("needs root: only root can mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_too_small(small_disk: Path) -> None:
    """A disk smaller than the journal is refused with the name of the key, and so is one without room for a segment."""
    with pytest.raises(JournalError) as error:
        check_start(config_in(small_disk))
    assert str(error.value).endswith("the disk has 20 MiB (set journal_size, which is 1GiB, to less)")
    check_start(config_in(small_disk, journal_size=16 * MIB))
    (small_disk / "filling").write_bytes(bytes(19 * MIB))
    text = refused(config_in(small_disk, journal_size=16 * MIB), small_disk)
    assert "1 MiB are free on the disk, 2 MiB needed (free some, or set journal_size to less)" in text
    with pytest.raises(JournalError, match=r"No space left on device \(free some space, or set journal_size to less"):
        start(config_in(small_disk, journal_size=16 * MIB))
    (small_disk / "filling").unlink()
    start(config_in(small_disk, journal_size=16 * MIB))
    check_start(config_in(small_disk, journal_size=16 * MIB))


def test_a_disk_that_is_read_only(small_disk: Path) -> None:
    """A disk that is mounted read-only is refused as such, also for root."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert "Read-only file system" in refused(config_in(small_disk, journal_size=16 * MIB), small_disk)
    config = msgspec.structs.replace(config_in(small_disk, journal_size=16 * MIB), socket=str(small_disk.parent / "s"))
    with pytest.raises(JournalError, match="Read-only file system"):
        check_start(config)
    assert os.listdir(small_disk.parent) == ["disk"]


@pytest.mark.parametrize(
    ("path", "group", "said"),
    [
        ("missing/way", None, "there is no folder {tmp}/missing (make it, or choose another path)"),
        (
            "shared/way",
            None,
            "{tmp}/shared can be written by everybody: another user could take its place (choose a path ",
        ),
        ("file", None, "a file that is not a pipe is already there (choose another path)"),
        ("way", "no-such-group", "no such group: no-such-group"),
        ("file/way", None, "there is no folder {tmp}/file (make it, or choose another path)"),
    ],
)
def test_a_source_that_could_not_be_opened(path: str, group: str | None, said: str, tmp_path: Path) -> None:
    """The check names the fault of a source; the start does not, because the hub goes on without the source."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    (tmp_path / "file").touch()
    config = config_in(tmp_path)
    check_sources(config)
    source = Fifo(path=AbsolutePath(tmp_path / path), group=group)
    config = msgspec.structs.replace(config, sources=(source,))
    check_start(config)
    with pytest.raises(SourceError) as raised:
        check_sources(config)
    assert raised.value.reason.startswith(said.format(tmp=tmp_path))


def test_a_source_that_is_there_is_fine(tmp_path: Path) -> None:
    """A pipe may be there before the hub, and while one runs."""
    os.mkfifo(tmp_path / "way")
    check_sources(msgspec.structs.replace(config_in(tmp_path), fifo=(AbsolutePath(tmp_path / "way"),)))


@NEEDS_ROOT
def test_a_source_with_a_group_or_folder_of_others() -> None:
    """A user can neither make a file in another user's folder, nor give it to a group that it is not in."""
    with open_folder() as folder:

        def check(group: str | None) -> str:
            source = Fifo(path=AbsolutePath("/run/way"), group=group)
            with pytest.raises(SourceError) as raised:
                check_sources(msgspec.structs.replace(config_in(folder), sources=(source,)))
            return str(raised.value)

        text = as_user(ALICE, lambda: check(None))
        assert "source /run/way: Permission denied: /run (choose a path in a folder of yours)" in text
        text = as_user(ALICE, lambda: check("0"))
        assert "source /run/way: Operation not permitted: group 0 (choose a group of yours)" in text


def test_the_journal_and_the_kernels_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder and journalctl have to be there, and the device has to open."""
    config = Config(sources=(Journald(directory=AbsolutePath(str(tmp_path / "missing"))),))
    with pytest.raises(SourceError, match=r"no such folder|no journalctl"):
        check_sources(config)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="there is no journalctl"):
        check_sources(Config(journald=True))
    script(tmp_path / "journalctl", [])
    check_sources(Config(journald=True))

    def refuse() -> int:
        raise SourceError("/dev/kmsg", "not for you")

    monkeypatch.setattr(preflight, "open_device", lambda: os.open("/dev/null", os.O_RDONLY))
    check_sources(Config(kmsg=True))
    monkeypatch.setattr(preflight, "open_device", refuse)
    with pytest.raises(SourceError, match="not for you"):
        check_sources(Config(kmsg=True))


def test_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its path and its token are checked, and that its library is there."""
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o644)
    at_address = config_in(tmp_path, http_token_file=token)
    at_address = msgspec.structs.replace(at_address, http=(Place("127.0.0.1:1"),))
    with pytest.raises(SourceError, match="can be read or changed by other users"):
        check_sources(at_address)
    token.chmod(0o600)
    check_sources(at_address)
    check_sources(msgspec.structs.replace(at_address, http=(Place(tmp_path / "web"),)))
    with pytest.raises(SourceError, match="there is no folder"):
        check_sources(msgspec.structs.replace(at_address, http=(Place(tmp_path / "absent" / "web"),)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SourceError, match=r"pip install 'mpsr\[http\]'"):
        check_sources(at_address)


def test_jetstream(tmp_path: Path) -> None:
    """The files that log in are read; no server is looked for."""
    password = tmp_path / "password"
    source = Jetstream(servers=(ServerUrl("nats://127.0.0.1:1"),), user="u", password_file=AbsolutePath(str(password)))
    with pytest.raises(SourceError, match="password"):
        check_sources(Config(sources=(source,)))
    password.write_text("secret")
    password.chmod(0o600)
    check_sources(Config(sources=(source,)))
    check_sources(Config(jetstream=(ServerUrl("nats://127.0.0.1:1"),)))


def test_notes_on_globs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A glob without files, a folder, and a file that cannot be read are notes, and no errors."""

    def following(glob: str) -> Config:
        return load({"socket": str(tmp_path / "s"), "journal": str(tmp_path / "j"), "files": [glob]}).config

    (tmp_path / "app.log").write_text("x")
    (tmp_path / "app.log.1").write_text("x")
    (tmp_path / "folder").mkdir()
    for name, note in (
        ("*.log", None),
        ("*.1", "no file matches now"),
        ("none/*.log", "no file matches now"),
        ("{app,web}.log", "no file matches now (braces are no wildcard: write several globs)"),
        ("folder", f"a folder, not files (write {tmp_path}/folder/*.log)"),
    ):
        config = following(f"{tmp_path}/{name}")
        check_sources(config)
        assert list(notes_on_sources(config)) == ([] if note is None else [f"{tmp_path}/{name}: {note}"])
    monkeypatch.setattr(os, "access", lambda *_: False)
    (sentence,) = notes_on_sources(following(f"{tmp_path}/*.log"))
    assert f"{tmp_path}/app.log cannot be read" in sentence

    def fail(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", fail)
    (sentence,) = notes_on_sources(following(f"{tmp_path}/*/*.log"))
    assert f"{tmp_path} cannot be read" in sentence
