"""docs/library.md and its neighbours against the public names of the two packages."""

from __future__ import annotations

import re

import pytest

import hub
import producers
from tests.docs.pages import PAGES

TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


@pytest.mark.parametrize("name", sorted({*hub.__all__, *producers.__all__}))
def test_every_public_name_is_explained(name: str) -> None:
    """Each name that can be imported is written as code, or imported, on some page."""
    assert re.search(rf"`{name}\b|^from (?:hub|producers) import .*\b{name}\b", TEXT, re.MULTILINE)
