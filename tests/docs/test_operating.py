"""docs/operating.md against the settings, counters, methods and log events of the hub."""

from __future__ import annotations

import ast
import dataclasses
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.control.methods import RIGHT_OF
from hub.entries import join
from hub.journal.block import pack_block, seed_of
from hub.message import Batch, Peer
from hub.metrics import Metrics
from hub.service.config import FIELDS, METHODS
from hub.service.keys import KEYS, Key
from hub.wire.chunkid import pack_own
from producers.backlog import new_session
from producers.record import encode_record, pack_entry
from tests.docs.pages import ROOT

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs/operating.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| `")
]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_every_key_has_a_row(key: Key) -> None:
    """The table of keys names each one, its default, and whether a reload changes it."""
    row = next(row for row in ROWS if f"`{key.name}`" in row[0].split(", "))
    assert row[1].replace("`", "") == (key.default_text or "none")
    assert row[2] == ("yes" if FIELDS[key.name].is_live else "no")


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Metrics)])
def test_every_counter_has_a_row(name: str) -> None:
    """The table of counters explains each one."""
    assert any(f"`{name}`" in row[0] for row in ROWS)


def events_of(path: Path) -> Iterator[tuple[str, str]]:
    """
    Yield each event that the module at *path* logs, and its level.

    They are written as ``log.info("a.b")``, ``lines.log(log.info, "a.b")``, and ``notes.append(("a.b", ...))``, which
    hub.sources.spool logs as a warning.
    """
    for node in ast.walk(ast.parse(path.read_bytes())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        method, args = node.func.attr, list(node.args)
        if method in ("log", "_log") and args and isinstance(args[0], ast.Attribute):
            method = args.pop(0).attr  # type: ignore[attr-defined]
        elif method == "append" and args and isinstance(args[0], ast.Tuple):
            method, args = "warning", args[0].elts
        elif ast.unparse(node.func.value) != "log":
            continue
        if args and isinstance(args[0], ast.Constant) and re.fullmatch(r"[a-z]+\.[a-z_]+", str(args[0].value)):
            yield str(args[0].value), "error" if method == "exception" else method


def test_every_event_has_a_row() -> None:
    """The table of events lists each one that the hub logs, with its level, and no other."""
    logged = sorted({event for path in (ROOT / "hub").rglob("*.py") for event in events_of(path)})
    log = (ROOT / "docs/operating.md").read_text(encoding="utf-8").partition("## The hub's log\n")[2]
    listed = re.findall(r"^\| `([a-z]+\.[a-z_]+)` \| (\w+) \|", log.partition("\n## ")[0], re.MULTILINE)
    assert sorted(listed) == logged
    assert len(logged) > 30, "they are found"


def test_every_method_has_a_row() -> None:
    """The table of methods lists each one, and the right that it takes."""
    names = {*METHODS}
    rows = {row[0].strip("`"): row[1] for row in ROWS if row[0].strip("`") in names}
    assert rows.keys() == names
    assert {name: right for name, right in rows.items() if name in RIGHT_OF} == RIGHT_OF


@pytest.mark.parametrize("count", [1, 100, 1000])
def test_what_a_message_costs_on_disk(count: int) -> None:
    """A message takes its bytes and those for its time; a chunk, what the page says, about; 1 GiB holds that many."""
    page = " ".join((ROOT / "docs/operating.md").read_text(encoding="utf-8").split())
    found = re.search(
        r"A message takes its own size plus (\d+) bytes for its time. A chunk adds about (\d+) bytes. "
        r"1 GiB holds ([\d.]+) million messages of (\d+) bytes",
        page,
    )
    assert found is not None
    of_time, of_chunk, size = int(found[1]), int(found[2]), int(found[4])
    record = encode_record({"message": "x" * (size - 11)})
    entry = pack_entry(record, time.time_ns())
    assert (len(record), len(entry)) == (size, size + of_time)
    peer = Peer(12345, 1000, 1000, "python", True, cgroup="/system.slice/shop.service")
    batch = Batch(b"shop.orders", join([entry] * count, count), count, pack_own(new_session(), 7), peer)
    _, stored = pack_block(batch, sequence=1 << 32, received=time.time_ns(), commit_offset=1 << 25, seed=seed_of(b""))
    assert abs(stored - count * len(entry) - of_chunk) <= 40
    if count == 1000:
        assert (1 << 30) / (stored / count) == pytest.approx(float(found[3]) * 1e6, rel=0.01)
