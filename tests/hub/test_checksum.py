"""hub.checksum: one checksum, whichever library computes it."""

from __future__ import annotations

import random
import subprocess
import sys
import zlib

import pytest

from hub.checksum import crc32


@pytest.mark.parametrize("size", [0, 1, 7, 64, 5000, 5121, 1_000_003])
def test_it_is_that_of_zlib(size: int) -> None:
    """For bytes and views of them, from any seed."""
    random_ = random.Random(size)
    data, seed = random_.randbytes(size), random_.getrandbits(32)
    assert crc32(data) == zlib.crc32(data)
    assert crc32(memoryview(data)[1:], seed) == zlib.crc32(memoryview(data)[1:], seed)


@pytest.mark.parametrize("is_missing", [False, True])
def test_isa_l_computes_it_if_it_is_installed(is_missing: bool) -> None:
    """Without the library, zlib does."""
    hide = "sys.modules['isal'] = None;" if is_missing else ""
    code = f"import sys; {hide} sys.path[:0] = {sys.path!r}; import hub.checksum; print(hub.checksum.crc32.__module__)"
    module = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert module == ("zlib" if is_missing else "isal.isal_zlib")
