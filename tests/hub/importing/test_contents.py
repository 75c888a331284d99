"""hub.importing.contents: the content of a log, however it is packed, and whatever is wrong with it."""

from __future__ import annotations

import errno
import gzip
import os
import random
import select
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.importing.contents import BLOCK_BYTES, BadContents, Contents
from tests.hub.wire.test_compression import COMPRESSORS

LINES = b"".join(b"%d line of a log\n" % number for number in range(50_000))
PLAIN: dict[str, Callable[[bytes], bytes]] = {"plain": bytes, **COMPRESSORS}
COMPRESSED = pytest.mark.parametrize("kind", COMPRESSORS)


def saved(folder: Path, data: bytes) -> str:
    path = folder / "file.log"
    path.write_bytes(data)
    return str(path)


def read(path: str, start: int = 0) -> tuple[bytes, str]:
    """Return the content, and why there is no more of it."""
    found = b""
    with Contents(path) as contents:
        try:
            for block in contents.blocks(start):
                assert 0 < len(block) <= BLOCK_BYTES
                found += block
        except BadContents as error:
            return found, str(error)
        assert contents.read_bytes == contents.size or not found
    return found, ""


@pytest.mark.parametrize("kind", PLAIN)
def test_the_content(kind: str, tmp_path: Path) -> None:
    """It is the same, compressed or not, from any place on."""
    path = saved(tmp_path, PLAIN[kind](LINES))
    for start in (0, 1, BLOCK_BYTES, len(LINES) - 1, len(LINES), len(LINES) + 1):
        assert read(path, start) == (LINES[start:], "")


@COMPRESSED
def test_several_pieces(kind: str, tmp_path: Path) -> None:
    """Members of gzip and frames of zstd follow each other, some of them empty, and zeros may follow."""
    compress = COMPRESSORS[kind]
    pieces = [LINES[:10], b"", LINES[10:100_000], LINES[100_000:]]
    packed = b"".join(map(compress, pieces))
    assert read(saved(tmp_path, packed)) == (LINES, "")
    assert read(saved(tmp_path, packed + bytes(100_000))) == (LINES, "")


def test_a_skippable_frame(tmp_path: Path) -> None:
    """What zstd passes over is no content, also at the beginning."""
    frame = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    assert read(saved(tmp_path, frame + COMPRESSORS["zstd"](LINES) + frame)) == (LINES, "")


@COMPRESSED
def test_a_file_that_is_cut_off(kind: str, tmp_path: Path) -> None:
    """All that can be decompressed is there."""
    packed = COMPRESSORS[kind](random.Random(1).randbytes(1_000_000))
    content = read(saved(tmp_path, packed))[0]
    for size in (len(packed) - 1, len(packed) // 2, 20):
        found, fault = read(saved(tmp_path, packed[:size]))
        assert fault == f"it ends in the middle of {kind}"
        assert content.startswith(found)
        assert len(found) > size - 300_000


@COMPRESSED
def test_a_damaged_file(kind: str, tmp_path: Path) -> None:
    """What precedes the damage is there."""
    compress = COMPRESSORS[kind]
    for rest in (b"garbage" * 20, compress(LINES)[:4] + b"\xff" * 100):
        found, fault = read(saved(tmp_path, compress(LINES) + rest))
        assert (found, fault.startswith(f"it is damaged: {kind}: ")) == (LINES, True)


@COMPRESSED
def test_a_bomb_costs_no_memory(kind: str, tmp_path: Path) -> None:
    """A file of some kilobytes with many megabytes is read in blocks."""
    path = saved(tmp_path, COMPRESSORS[kind](bytes(64 << 20)))
    assert os.stat(path).st_size < 1 << 20
    tracemalloc.start()
    try:
        with Contents(path) as contents:
            assert sum(map(len, contents.blocks())) == 64 << 20
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_grows(tmp_path: Path) -> None:
    """It ends where it ended, until it is looked at again."""
    path = saved(tmp_path, b"one\n")
    with Contents(path) as contents, open(path, "ab") as file:
        file.write(b"two\n")
        file.flush()
        assert [*contents.blocks()] == [b"one\n"]
        contents.look()
        assert [*contents.blocks()] == [b"one\ntwo\n"]
        file.truncate(2)
        assert [*contents.blocks()] == [b"on"]


@pytest.mark.parametrize(
    ("begin", "hint"),
    [
        (b"\xfd7zXZ\0\0\0", "xz -dc"),
        (b"BZh91AY", "bzip2 -dc"),
        (b"\x04\x22\x4d\x18", "lz4 -dc"),
        (b"PK\3\4", "unzip -p"),
        (b"LPKSHHRH", "journalctl --file"),
    ],
)
def test_what_is_no_log(begin: bytes, hint: str, tmp_path: Path) -> None:
    """The error names what to do."""
    with pytest.raises(BadContents, match=hint):
        Contents(saved(tmp_path, begin + b"..."))


def test_what_is_no_file(tmp_path: Path) -> None:
    """Folders and devices are refused, and a named pipe without a writer is empty and not waited for."""
    with pytest.raises(BadContents, match="it is a folder"):
        Contents(str(tmp_path))
    with pytest.raises(BadContents, match="it is not a file"):
        Contents("/dev/zero")
    with pytest.raises(FileNotFoundError):
        Contents(str(tmp_path / "nothing"))
    os.mkfifo(tmp_path / "pipe")
    assert read(str(tmp_path / "pipe")) == (b"", "")


def test_a_pipe_is_read_once_and_given_twice() -> None:
    """What a shell gives as a file, <(zcat FILE), can be read from any place on, compressed or not."""
    reading, writing = os.pipe()
    os.write(writing, gzip.compress(b"one\ntwo\n"))
    os.close(writing)
    with Contents(f"/dev/fd/{reading}") as contents:
        os.close(reading)
        assert b"".join(contents.blocks()) == b"one\ntwo\n"
        assert b"".join(contents.blocks(4)) == b"two\n"


def test_a_pipe_that_does_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program may have made it so: it is read to its end all the same, however late its writer is."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    waited: list[int] = []

    class Poll:
        def register(self, fd: int, events: int) -> None:
            waited.append(events)

        def poll(self) -> None:
            if len(waited) == 1:
                os.write(writing, b"late\n")
            else:
                os.close(writing)

    monkeypatch.setattr("select.poll", Poll)
    with open(reading) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert read("-") == (b"late\n", "")
    assert waited == [select.POLLIN] * 2


def test_a_full_folder_of_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names it, and another error is what it is."""
    for number, error, why in ((errno.ENOSPC, BadContents, "has no room for a copy"), (errno.EIO, OSError, "output")):
        reading, writing = os.pipe()
        os.write(writing, b"one\n")
        os.close(writing)

        def fails(fd: int, data: bytes, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        with open(reading) as stdin, monkeypatch.context() as patched:
            patched.setattr("sys.stdin", stdin)
            patched.setattr("hub.importing.contents.write_all", fails)
            with pytest.raises(error, match=why):
                Contents("-")
