"""hub.sources.filereading: steps of one owner."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.hub.sources.followrig import Rig


def test_permissions(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be read is tried again with the next look; it does not hold up its successor."""
    rig.start()
    rig.write("app.log", "1\n")
    opening, refused = os.open, [True]

    def fail(path: str, *args: int, **options: Any) -> int:
        if refused[0] and str(path).endswith("app.log"):
            raise PermissionError(13, "Permission denied", path)
        return opening(path, *args, **options)

    monkeypatch.setattr(os, "open", fail)
    assert rig.all() == []
    refused[0] = False
    assert rig.all() == ["1"]
