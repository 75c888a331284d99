"""The journal that is looked at: what it claims to be; and what is measured has a section on the page."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from hub.journal.files import DiskFiles
from hub.journal.reader import Reader
from hub.query.level import rank_of
from hub.query.query import Query
from tests.benchmarks import looking
from tests.benchmarks.results import Point, Results

GIB = 0.006


def test_the_journal(tmp_path: Path) -> None:
    """A day of readable messages of all applications, most with a level; the rare word is as rare as it should be."""
    count = looking.make_journal(str(tmp_path / "journal"), GIB)
    messages = [*Query().messages(Reader(DiskFiles(str(tmp_path / "journal"))).read())]
    assert [each.sequence for each in messages] == [*range(1, count + 1)]
    assert {each.tag.encode() for each in messages} == {each.tag for each in looking.APPLICATIONS}
    levels = Counter(rank_of(each.record) for each in messages)
    assert 0 < levels[None] < 0.2 * count
    assert len(levels) == 5
    assert sum(looking.RARE in str(each.record) for each in messages) == count // looking.RARE_EACH + 1
    assert 0.8 < (messages[-1].received - messages[0].received) / (looking.DAY_S * 1e9) <= 1


def test_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command is timed; a command that fails is no figure."""
    pytest.importorskip("duckdb")
    monkeypatch.setattr(looking, "COMMANDS", {"logs -n 1": ("logs", "-n", "1")})
    found = looking.looked(tmp_path, GIB, runs=1)
    section = looking.section(Results(points=[Point("looking", looking.ALL, 1, 0, found)]))
    for name in ("logs -n 1", looking.FILLING, looking.CACHED):
        assert found[f"{name}, CPU s"] > 0
        assert f"`{name.partition(',')[0]}`" in section
    assert looking.section(Results()) == ""
    monkeypatch.setattr(looking, "COMMANDS", {"wrong": ("logs", "--level", "loud")})
    with pytest.raises(subprocess.CalledProcessError):
        looking.commands(f"{tmp_path}/journal", f"{tmp_path}/cache", 1)
