"""hub.sources.table: the types of sources, and what reading the configuration loads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hub.errors import SocketError, SourceError, UnknownGroup
from hub.paths import AbsolutePath
from hub.service.misfit import Misfit
from hub.service.tables import read_table, type_of
from hub.sources.kinds import EXCLUDE, Fifo, Files, Journald
from hub.sources.table import SOURCES, as_source_error
from hub.sources.values import GlobPath, Tag, TagTemplate
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
        needed: dict[str, object] = {} if row.is_switch else {key: row.sample.format("a")}
        if name == "files":
            needed = {"paths": [row.sample]}
        if name == "jetstream":
            needed = {"servers": [row.sample]}
        assert type_of(read_table({"type": name, **needed}, row.table)) == name
        assert row.help.endswith(".")


def test_the_journal() -> None:
    """A journal is the one of this machine, or that in a folder; where to begin is one of two words."""
    table = read_table({"type": "journald"}, Journald)
    assert (table.where, table.begin, table.units) == ("journald", "end", ())
    table = read_table({"type": "journald", "directory": "/a", "from": "start", "units": ["a*"]}, Journald)
    assert (table.where, table.begin, table.units) == ("/a", "start", ("a*",))
    for wrong in ({"from": "now"}, {"begin": "end"}, {"directory": "a"}, {"path": "/a"}):
        with pytest.raises(Misfit):
            read_table({"type": "journald", **wrong}, Journald)


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


def test_tables_of_files() -> None:
    """Globs are absolute; the tag has the fields of a path; multiline is for text; what rotation makes is left out."""
    table = read_table({"type": "files", "paths": ["/var/log//a/../*.log"], "exclude": ["x"]}, Files)
    assert (table.where, table.tag_of("/var/log/nginx/access.log")) == (
        "/var/log/*.log",
        b"files.var.log.nginx.access.log",
    )
    assert table.excluded == (*EXCLUDE, "x")
    assert TagTemplate.parse("{folder}.{name}.{path}").of("/a/b/c.d.log") == b"b.c.d.a.b.c.d.log"
    assert len(TagTemplate.parse("{path}").of("/x" * TAG_BYTES_MAX)) == TAG_BYTES_MAX
    assert GlobPath.of_shell("*.log") == f"{os.getcwd()}/*.log"
    for given, problem in (
        ({"paths": []}, "needs paths"),
        ({"paths": ["*.log"]}, "not an absolute path.*like /var/log"),
        ({"paths": ["/var/log/"]}, "a folder, not files"),
        ({"paths": ["/x"], "tag": "{file}"}, "its fields are"),
        ({"paths": ["/x"], "tag": "a{"}, "its fields are"),
        ({"paths": ["/x"], "multiline": "("}, "not a regular expression"),
        ({"paths": ["/x"], "multiline": ""}, "not auto, indent"),
        ({"paths": ["/x"], "multiline": "Auto"}, "not auto, indent"),
        ({"paths": ["/x"], "multiline": "traceback"}, "leave the key out"),
        ({"paths": ["/x"], "multiline": "auto", "parse": "json"}, "joins lines of text"),
        ({"paths": ["/x"], "parse": "xml"}, "not one of"),
    ):
        with pytest.raises(Misfit, match=problem):
            read_table({"type": "files", **given}, Files)
