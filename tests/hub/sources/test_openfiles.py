"""hub.sources.openfiles: few descriptors."""

from __future__ import annotations

import resource

import pytest

from hub.sources import openfiles


@pytest.mark.parametrize(("limit", "files"), [(64, 8), (1024, 128), (20_000, 1024), (4, 1), (-1, 1024)])
def test_few_descriptors(monkeypatch: pytest.MonkeyPatch, limit: int, files: int) -> None:
    """The files of a source leave descriptors to the rest of the hub."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert openfiles.open_max() == files
