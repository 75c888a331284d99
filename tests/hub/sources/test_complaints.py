"""hub.sources.complaints: each is logged once."""

from __future__ import annotations

from typing import Any

import pytest

from hub.sources import complaints
from hub.sources.complaints import Complaints


def test_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same is not logged again until it was all right, or many others have come after it."""
    monkeypatch.setattr(complaints, "COMPLAINTS_MAX", 2)
    logged: list[tuple[str, str]] = []
    made = Complaints()

    def log(number: int, path: str) -> None:
        made.log(lambda event, **fields: logged.append((event, fields["path"])), f"kind.{number}", path)

    def take() -> list[tuple[str, str]]:
        taken: list[Any] = logged.copy()
        logged.clear()
        return taken

    made.end("kind.0", "a")
    log(1, "a")
    log(1, "a")
    assert take() == [("kind.1", "a")]
    made.end("kind.1", "a")
    log(2, "a")
    log(3, "a")
    assert take() == [("kind.2", "a"), ("kind.3", "a")]
    log(4, "a")
    log(3, "a")
    assert take() == [("kind.4", "a")]
