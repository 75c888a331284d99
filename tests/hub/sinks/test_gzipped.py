"""hub.sinks.gzipped: gzip, whichever library makes it."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys

import pytest

from hub.sinks.gzipped import gzipped


@pytest.mark.parametrize("size", [0, 1, 1000, 300_000])
def test_gzip_reads_it(size: int) -> None:
    """Bytes and views of them come back; text shrinks."""
    data = b"order 17 is paid\n" * size
    assert gzip.decompress(gzipped(data)) == data
    assert gzip.decompress(gzipped(memoryview(data)[1:])) == data[1:]
    assert size < 1000 or len(gzipped(data)) < len(data) / 10
    noise = random.Random(size).randbytes(size)
    assert gzip.decompress(gzipped(noise)) == noise


@pytest.mark.parametrize(("is_missing", "module"), [(False, "isal"), (True, "zlib")])
def test_isa_l_makes_it_if_it_is_installed(is_missing: bool, module: str) -> None:
    """Without the library, zlib does; both are gzip."""
    hide = "sys.modules['isal'] = None;" if is_missing else ""
    code = (
        f"import sys; {hide} sys.path[:0] = {sys.path!r}; import gzip, hub.sinks.gzipped as it;"
        "print(type(it.compressobj()).__module__, gzip.decompress(it.gzipped(b'text')))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert found.startswith(module)
    assert found.endswith("b'text'")
