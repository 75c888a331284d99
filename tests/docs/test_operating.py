"""docs/operating.md against the settings and the counters of the hub."""

from __future__ import annotations

import dataclasses

import pytest

from hub.metrics import Metrics
from hub.service.config import FIELDS
from hub.service.keys import KEYS, Key
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
