"""hub.sinks.packing: a finished file becomes a compressed one, whole or not at all."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import pytest

from hub.sinks import packing as module
from hub.sinks.packing import SUFFIXES, Method, is_packed, pack
from hub.wire.compression import decompress

DATA = random.Random(0).randbytes(100_000) + bytes(100_000)


def unpacked(path: Path, method: Method) -> bytes:
    return b"".join(decompress(memoryview(path.read_bytes()), method, 1 << 30))


@pytest.mark.parametrize("method", ["zstd", "gzip"])
@pytest.mark.parametrize("data", [b"", b"one\n", DATA])
def test_it_holds_the_same(tmp_path: Path, method: Method, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contents, the mode and the time of modification; the plain file is gone."""
    monkeypatch.setattr(module, "PIECE_BYTES", 30_000)
    plain, packed = tmp_path / "a.log", tmp_path / f"a.log{SUFFIXES[method]}"
    plain.write_bytes(data)
    plain.chmod(0o604)
    os.utime(plain, ns=(5, 1_000_000_007))
    pack(str(plain), str(packed), method, lambda: None)
    assert unpacked(packed, method) == data
    assert (stat.S_IMODE(packed.stat().st_mode), packed.stat().st_mtime_ns) == (0o604, 1_000_000_007)
    assert sorted(tmp_path.iterdir()) == [packed]


def test_an_interruption_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain file stays, and nothing else; what a kill has left is overwritten."""
    monkeypatch.setattr(module, "PIECE_BYTES", 30_000)
    plain, packed = tmp_path / "a.log", tmp_path / "a.log.zst"
    plain.write_bytes(DATA)
    pieces = iter([True, True, False])

    def check() -> None:
        if not next(pieces):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        pack(str(plain), str(packed), "zstd", check)
    assert list(tmp_path.iterdir()) == [plain]
    (tmp_path / "a.log.zst.tmp").write_bytes(b"half" * 100_000)
    pack(str(plain), str(packed), "zstd", lambda: None)
    assert unpacked(packed, "zstd") == DATA


def test_a_kill_before_the_plain_file_goes_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have the same time of modification then; those that only have the name in common do not."""
    plain, packed = tmp_path / "a.log", tmp_path / "a.log.zst"
    plain.write_bytes(DATA)
    assert not is_packed(str(plain), str(packed))

    def die(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "unlink", die)
    with pytest.raises(KeyboardInterrupt):
        pack(str(plain), str(packed), "zstd", lambda: None)
    monkeypatch.undo()
    assert is_packed(str(plain), str(packed))
    os.utime(packed, ns=(1, 1))
    assert not is_packed(str(plain), str(packed))
    plain.unlink()
    packed.unlink()
    with pytest.raises(FileNotFoundError):
        is_packed(str(plain), str(packed))
