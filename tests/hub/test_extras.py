"""The extras of the distribution."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from hub import extras
from hub.extras import MODULES, without_extra


def test_a_missing_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the extra; a module of a package that is not there is missing as well, and nothing is raised."""
    monkeypatch.setitem(extras.MODULES, "http", ("asyncio",))
    monkeypatch.setitem(extras.MODULES, "otlp", ("not_there.proto",))
    monkeypatch.setitem(extras.MODULES, "nats", ("asyncio", "not_there"))
    assert not without_extra("the page", "http")
    for name in ("otlp", "nats"):
        expected = f"the sink needs an extra that is not installed: pip install 'mpsr[{name}]'"
        assert without_extra("the sink", name) == expected


def test_each_is_an_extra_of_the_distribution() -> None:
    """The command in the sentence installs something."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert MODULES.keys() < project["optional-dependencies"].keys()
