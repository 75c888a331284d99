"""The files of the page: what is vendored is what its makers have published, and nothing in them is inline."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

PAGE = Path(str(files("hub.web").joinpath("page")))
OWN = sorted(path for path in PAGE.iterdir() if path.suffix in (".js", ".css", ".html"))


def test_the_vendored_files_are_those_of_the_manifest() -> None:
    """Each file in vendor/ has its hash in manifest.json, and each library its licence."""
    manifest = json.loads((PAGE / "manifest.json").read_text())
    stated = {name: digest for library in manifest.values() for name, digest in library["files"].items()}
    found = {
        f"vendor/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in (PAGE / "vendor").iterdir()
    }
    assert found == stated
    assert all(any(name.endswith("LICENSE") for name in library["files"]) for library in manifest.values())


def test_everything_that_a_file_names_is_there() -> None:
    """Each import, script, style and image is a file of the package: a wheel without one would be a blank page."""
    named = {
        PAGE / name
        for path in OWN
        for name in re.findall(r"""(?:from|import\() ?["']\./([^"']+)|(?:src|href)="page/([^"]+)""", path.read_text())
        for name in name
        if name
    }
    assert len(named) > 20
    assert [path for path in named if not path.is_file()] == []


def test_each_script_is_used() -> None:
    """No module is left over: main.js reaches all of them."""
    reached, waiting = set[str](), ["main.js"]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += re.findall(r'from "\./([\w-]+\.js)"', (PAGE / name).read_text())
    assert reached == {path.name for path in OWN if path.suffix == ".js"}


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_nothing_is_inline_or_from_elsewhere(path: Path) -> None:
    """No markup is made of text, no script or style stands in markup, and nothing is loaded from another place."""
    text = path.read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function\(", text)
    assert not re.search(r"unsafeHTML|unsafeSVG|\bstyle=\"|[\s<]on\w+=\"", text)
    assert not re.search(r"https?://(?!www\.w3\.org|hooks\.example\.org)|//# sourceMappingURL", text)
    assert "<script>" not in text
    assert "<style>" not in text


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_a_file_begins_with_what_it_does_and_is_short(path: Path) -> None:
    """As everywhere here: a file has one thing, below 320 lines, and its head says which."""
    lines = path.read_text().splitlines()
    assert len(lines) <= 320
    if path.suffix != ".html":
        assert lines[0].startswith("/*")
