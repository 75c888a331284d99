"""Spool: files for waiting messages where files are possible; elsewhere memory, and the reason."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import resource
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub import trust
from hub.lockfile import is_owner_dead
from hub.wire.spoolfile import HEADER_BYTES, lock_name, segment_name, unpack_header
from producers import Producer
from producers.backlog import ARENA_BYTES, Backlog, new_session
from producers.spool import Spool
from tests.support import PATIENCE_S, HubProcess, descriptors, eventually

SIZE = 64 << 10


@pytest.fixture
def spool(folder: Path) -> Iterator[Spool]:
    spool = Spool(str(folder), new_session())
    yield spool
    spool.close(keep=False)


def test_a_segment_is_a_file(folder: Path, spool: Spool) -> None:
    """
    A segment file has its space, header and mode from the start, whatever the umask; the lock is held under its name.
    """
    assert not spool.is_in_use
    before = os.umask(0o077)
    try:
        memories = [spool.allocate(SIZE) for _ in range(2)]
    finally:
        os.umask(before)
    assert [memory.is_file for memory in memories] == [True, True]
    name = spool._name
    names = {lock_name(name), segment_name(name, 1), segment_name(name, 2)}
    assert set(os.listdir(folder)) == names
    assert {stat.S_IMODE((folder / file).stat().st_mode) for file in names} == {0o640}
    described = (folder / segment_name(name, 1)).stat()
    assert (described.st_size, described.st_blocks * 512 >= SIZE) == (SIZE, True), "no holes"
    header = unpack_header(memories[0].map[:HEADER_BYTES])
    assert header is not None
    assert (header.session, header.pid, header.position) == (spool._session, os.getpid(), HEADER_BYTES)
    memories[0].map[HEADER_BYTES:SIZE] = bytes(SIZE - HEADER_BYTES)
    assert spool.is_in_use
    memories[0].free()
    memories[0].free()
    assert not (folder / segment_name(name, 1)).exists()


def test_names_that_nobody_can_know(folder: Path) -> None:
    """The names of a producer's files do not contain its session; two producers of one process have different ones."""
    spools = [Spool(str(folder), new_session()) for _ in range(2)]
    assert [spool.allocate(SIZE).is_file for spool in spools] == [True, True]
    files = os.listdir(folder)
    assert sorted(files) == sorted(
        file for spool in spools for file in (lock_name(spool._name), segment_name(spool._name, 1))
    )
    assert len(set(files)) == 4
    assert not [file for file in files for spool in spools if spool._session in file]
    sessions = {header.session for path in folder.glob("*.seg") if (header := unpack_header(path.read_bytes()))}
    assert sessions == {spool._session for spool in spools}
    for spool in spools:
        spool.close(keep=False)


@pytest.mark.parametrize("keep", [False, True])
def test_closing(folder: Path, keep: bool) -> None:
    """After close there is no descriptor, and either no file or, with *keep*, all files, unlocked."""
    before = descriptors()
    spool = Spool(str(folder), new_session())
    backlog = Backlog(session=spool._session, allocate=spool.allocate)
    for _ in range(5):
        backlog.append(b"t", b"x" * (ARENA_BYTES // 2))
    backlog.close(keep=keep)
    spool.close(keep=keep)
    spool.close(keep=not keep)
    assert descriptors() == before
    assert len(list(folder.glob("*.seg"))) == (5 if keep else 0)
    assert [is_owner_dead(str(path)) for path in folder.glob("*.lock")] == [True] * keep


def test_nothing_grows(folder: Path) -> None:
    """However many messages pass, files, descriptors and mappings do not exceed the need of the waiting ones."""
    before = descriptors()
    spool = Spool(str(folder), new_session())
    backlog = Backlog(session=spool._session, allocate=spool.allocate)
    for number in range(2000):
        assert backlog.append(b"t%d" % (number % 2), b"x" * (20_000 if number % 50 else 3 * ARENA_BYTES))
        backlog.cut()
        if number % 5 == 4:
            while (chunk := backlog.next_unsent()) is not None:
                backlog.acknowledge(chunk.id)
        if number % 500 == 499:
            gc.collect()
            assert len(os.listdir(folder)) <= 6
            assert descriptors() <= before + 6
    assert backlog.is_empty
    backlog.close(keep=False)
    spool.close(keep=False)
    gc.collect()
    assert (descriptors(), os.listdir(folder)) == (before, [])


# No files.


def refused(spool: Spool, reason: str) -> None:
    """Fail unless memory is allocated and the reason is given."""
    memory = spool.allocate(SIZE)
    assert not memory.is_file
    memory.map[:SIZE] = b"x" * SIZE
    memory.free()
    assert reason in spool.fault
    assert spool.fault.startswith(spool.folder)


def test_no_folder_and_later_one(folder: Path) -> None:
    """Without a folder memory is used; as soon as the folder exists, files are."""
    spool = Spool(str(folder / "later"), new_session())
    refused(spool, "No such file")
    (folder / "later").write_bytes(b"")
    refused(spool, "Not a directory")
    (folder / "later").unlink()
    (folder / "later").mkdir()
    assert spool.allocate(SIZE).is_file
    assert spool.fault == ""
    spool.close(keep=False)


def test_a_full_disk(folder: Path) -> None:
    """Lack of space is detected before mapping, no partial file stays, and the remaining space is used."""
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k,mode=0700", "none", str(folder)], check=False
    ).returncode:
        pytest.skip("needs root: only root can mount")
    try:
        spool = Spool(str(folder), new_session())
        made = [spool.allocate(128 << 10) for _ in range(3)]
        assert [memory.is_file for memory in made] == [True] * 3
        names = sorted(os.listdir(folder))
        memory = spool.allocate(256 << 10)
        assert (memory.is_file, "No space" in spool.fault) == (False, True)
        assert sorted(os.listdir(folder)) == names
        made.pop().free()
        del memory
        gc.collect()
        assert spool.allocate(128 << 10).is_file
        assert spool.fault == ""
        spool.close(keep=False)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("limit", [resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE])
def test_limits_of_the_process(folder: Path, limit: int) -> None:
    """A limit on the size or the number of files leads to memory, and to no signal."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            spool = Spool(str(folder), new_session())
            top = SIZE - 1 if limit == resource.RLIMIT_FSIZE else 3
            resource.setrlimit(limit, (top, resource.getrlimit(limit)[1]))
            refused(spool, "too large" if limit == resource.RLIMIT_FSIZE else "Too many open files")
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert list(folder.glob("*.seg")) == []


def test_a_file_system_that_cannot_reserve(folder: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """If space cannot be reserved or a file not mapped, memory is used, and no file stays."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    for owner, name in ((os, "posix_fallocate"), (os, "fchmod")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, refuse)
            refused(spool, "not supported")
    with monkeypatch.context() as patch:
        patch.delattr(os, "posix_fallocate")
        refused(spool, "cannot reserve")
    assert list(folder.glob("*.seg")) == []
    assert spool.allocate(mmap.PAGESIZE).is_file


def test_a_folder_that_is_removed(folder: Path) -> None:
    """A live producer whose folder was removed, and created again by the next hub, is not taken for a dead one."""
    place = folder / "spool"
    place.mkdir()
    spool = Spool(str(place), new_session())
    assert spool.allocate(SIZE).is_file
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    assert not spool.is_in_use
    refused(spool, "No such file")
    place.mkdir()
    assert spool.allocate(SIZE).is_file
    assert spool.is_in_use
    (lock,) = place.glob("*.lock")
    pid = os.fork()
    if pid == 0:
        os._exit(is_owner_dead(str(lock)))
    assert os.waitpid(pid, 0)[1] == 0
    spool.close(keep=False)


def test_a_producer_and_a_folder_that_appears(folder: Path) -> None:
    """Messages are in memory while there is no folder, and in files from the first one after a hub created it."""
    with HubProcess(folder) as hub:
        path = Path(hub.socket + ".spool")
        path.rename(folder / "elsewhere")
        with Producer(hub.socket, tag="t") as producer:
            producer.send({"n": 0})
            assert producer.stats()["spool"] is None
            assert "No such file" in producer.stats()["spool_fault"]
            producer.flush(PATIENCE_S)
            (folder / "elsewhere").rename(path)

            def is_spooling() -> bool:
                producer.send({"n": producer.stats()["appended"]})
                producer.flush(PATIENCE_S)
                return producer.stats()["spool"] is not None

            eventually(is_spooling)
            assert producer.stats()["spool_fault"] == ""
        assert os.listdir(path) == []
        numbers = [message.record["n"] for message in hub.messages("t")]
        assert numbers == list(range(len(numbers)))


def test_a_folder_that_is_not_ours_alone(folder: Path) -> None:
    """
    A folder that other users can write to, or a group without the sticky bit, is not used, nor is a link to a good one.
    """
    place = folder / "spool"
    place.mkdir()
    spool = Spool(str(place), new_session())
    for mode, reason in ((0o777, "everybody"), (0o1777, "everybody"), (0o3732, "everybody")):
        place.chmod(mode)
        refused(spool, f"can be written by {reason}")
    place.chmod(0o700)
    (folder / "link").symlink_to(place)
    link = Spool(str(folder / "link"), new_session())
    refused(link, "Not a directory")
    assert os.listdir(place) == []
    folder.chmod(0o777)  # and then nothing in it is safe
    refused(spool, f"{folder} can be written by everybody")
    folder.chmod(0o700)
    assert spool.allocate(SIZE).is_file
    spool.close(keep=False)


def test_a_folder_that_is_swapped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the path is replaced between check and use, the files go to the folder that was checked."""
    place, checked = folder / "spool", folder / "checked"
    place.mkdir()
    real = trust.check_folder

    def swap(*args: object) -> None:
        real(*args)  # type: ignore[arg-type]
        place.rename(checked)
        place.mkdir(mode=0o777)
        monkeypatch.setattr(trust, "check_folder", real)

    monkeypatch.setattr(trust, "check_folder", swap)
    before = descriptors()
    spool = Spool(str(place), new_session())
    memory = spool.allocate(SIZE)
    name = spool._name
    assert (memory.is_file, os.listdir(place)) == (True, [])
    assert set(os.listdir(checked)) == {lock_name(name), segment_name(name, 1)}
    assert not spool.is_in_use
    memory.free()
    del memory  # with its descriptor
    assert os.listdir(checked) == [lock_name(name)]
    assert spool.allocate(SIZE).is_file
    assert set(os.listdir(place)) == {lock_name(name), segment_name(name, 2)}, "the next look finds the new one"
    spool.close(keep=False)
    assert os.listdir(place) == [segment_name(name, 2)]
    assert descriptors() == before


def test_a_lock_that_cannot_be_had_leaves_nothing(folder: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the lock cannot get its name, memory is used, and neither file nor descriptor is left."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "broken")

    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        refused(spool, "broken")
        refused(spool, "broken")
    assert (os.listdir(folder), descriptors()) == ([], before)
