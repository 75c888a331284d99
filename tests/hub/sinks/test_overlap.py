"""hub.sinks.overlap: files of a sink that the same hub reads, and folders that are not for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sinks.overlap import is_followed, leads_into
from hub.sinks.pathtemplate import PathTemplate
from hub.sources.fileglob import Glob
from hub.sources.kinds import EXCLUDE


@pytest.mark.parametrize(
    ("path", "glob"),
    [
        ("/srv/app.log", "/srv/app.log"), ("/srv/app.log", "/srv/*.log"), ("/srv/{tag}.log", "/srv/nginx.log"),
        ("/srv/{tag}.log", "/srv/*"), ("/srv/{tag}/{date}.log", "/srv/*/2026-*.log"), ("/srv/{tag}.log", "/**/*.log"),
        ("/srv/a-{date}.log", "/srv/[a-c]-????-??-??.log"), ("/srv/{tag}/{date}-{hour}.log", "/srv/**/*-07.log"),
        ("/srv/{tag}.log", "/srv/[!x]*.log"), ("/srv/a/b.log", "/srv/**/b.log"), ("/srv/b.log", "/srv/**/b.log"),
        ("/srv/{tag}x.log", "/srv/*y*x.log"),
    ],
)  # fmt: skip
def test_files_that_are_followed(path: str, glob: str) -> None:
    """There are a tag and a time with which the glob matches."""
    assert is_followed(path, ["/elsewhere/*", glob], EXCLUDE) == glob


@pytest.mark.parametrize(
    ("path", "glob"),
    [
        ("/srv/app.log", "/srv/app.txt"), ("/srv/{tag}.log", "/srv/*.txt"), ("/srv/{tag}.log", "/srv/*/*.log"),
        ("/srv/{tag}/x.log", "/srv/*.log"), ("/srv/a-{date}.log", "/srv/a-x*.log"), ("/srv/a.log", "/var/**/a.log"),
        ("/srv/{tag}.log", "/srv/ü.log"), ("/srv/{tag}.log", "/srv/.log"), ("/srv/{date}.log", "/srv/20[a-z]*.log"),
        ("/srv/{tag}.log", "/srv/a b.log"), ("/srv/{tag}.log", "/srv/[[].log"),
    ],
)  # fmt: skip
def test_files_that_are_not(path: str, glob: str) -> None:
    """No tag and no time lead there."""
    assert is_followed(path, [glob], EXCLUDE) is None


def test_files_that_a_source_leaves_out() -> None:
    """An exclusion counts if it covers usual tags; a path without wildcards is read whatever is excluded."""
    assert is_followed("/srv/{tag}.log", ["/srv/*"], [*EXCLUDE, "*.log"]) is None
    assert is_followed("/srv/{tag}.log", ["/srv/*"], ["/srv/*"]) is None
    assert is_followed("/srv/{tag}.log", ["/srv/*"], [*EXCLUDE, "app*"]) == "/srv/*"
    assert is_followed("/srv/{tag}.log", ["/srv/app.log"], ["*.log"]) == "/srv/app.log"
    assert is_followed("/srv/app.log.1", ["/srv/*"], EXCLUDE) is None


@pytest.mark.parametrize(
    ("path", "folder", "leads"),
    [
        ("/j/a.log", "/j", True), ("/j/{tag}.log", "/j/", True), ("/j/x/a.log", "/j", True), ("/a.log", "/j", False),
        ("/{tag}/a.log", "/j", True), ("/{tag}/{date}.log", "/j/k", False), ("/{tag}/{date}/x.log", "/j/k", False),
        ("/jj/a.log", "/j", False), ("/x-{tag}/a.log", "/j", False), ("/{tag}/{tag}/a.log", "/j/k", True),
        ("/v/{tag}/a.log", "/w/j", False), ("/{tag}.log", "/j", False),
    ],
)  # fmt: skip
def test_a_folder_that_is_not_for_sinks(path: str, folder: str, leads: bool) -> None:
    """Also if only a tag leads there: any user may send any tag."""
    assert leads_into(path, folder) == leads


tags = st.text("abc.1", min_size=1, max_size=4).filter(lambda tag: not tag.startswith("."))
globs = st.text("abc.1*?[]", min_size=1, max_size=5)


@given(tags, globs, st.sampled_from(["/s/{tag}", "/s/{tag}.c", "/s/a{tag}b", "/s/{tag}/b"]))
def test_what_a_glob_matches_is_found(tag: str, glob: str, path: str) -> None:
    """Whatever file a glob really matches overlaps."""
    if path.endswith("}"):
        path += "b"
    made = PathTemplate(path).path(tag.encode(), 0)
    if Glob(f"/s/{glob}").has(made):
        assert is_followed(path, [f"/s/{glob}"], ()) is not None
