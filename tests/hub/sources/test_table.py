"""hub.sources.table: the types of sources, and what reading the configuration loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hub.errors import SocketError, SourceError, UnknownGroup
from hub.paths import AbsolutePath
from hub.service.tables import read_table
from hub.sources.table import SOURCES, Fifo, Tag, as_source_error, type_of
from hub.wire.frame import TAG_BYTES_MAX


def test_the_configuration_loads_no_source() -> None:
    """`mpsr hub --help` and `mpsr config` know every type, and load none."""
    script = "import hub.service.keys, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert {row.module for row in SOURCES.values()} & set(run.stdout.split()) == set()
    assert "hub.sources.table" in run.stdout.split()


def test_the_rows() -> None:
    """A row is named after the type of its table, and has a help that ends like a sentence."""
    for name, row in SOURCES.items():
        key = "address" if row.metavar == "HOST:PORT" else "path"
        assert type_of(read_table({"type": name, key: row.sample.format("a")}, row.table)) == name
        assert row.help.endswith(".")


def test_tags() -> None:
    """A tag is a text that fits into a frame."""
    assert Tag.parse("x" * TAG_BYTES_MAX) == "x" * TAG_BYTES_MAX
    for wrong in ("", "é" * TAG_BYTES_MAX, 5, None):
        with pytest.raises(ValueError, match="not a tag"):
            Tag.parse(wrong)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SourceError("/b", "why"), "why"),
        (SocketError("/a", "why (choose a --socket in a folder of yours)"), "why (choose a path in a folder of yours)"),
        (SocketError("/a", "long (choose a shorter --socket)"), "long (choose a shorter path)"),
        (SocketError("/a", "taken (choose another --socket)"), "taken (choose another path)"),
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (UnknownGroup("gg"), "no such group: gg (see `getent group`, or leave --group out)"),
        (ZeroDivisionError("x"), "ZeroDivisionError('x')"),
    ],
)
def test_faults_in_words(error: Exception, reason: str) -> None:
    """Whatever opening a source raises becomes one sentence about it."""
    assert as_source_error(Fifo(path=AbsolutePath("/a")), error).reason == reason
