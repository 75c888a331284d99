"""hub.sinks.pathtemplate: paths by tag and date that stay in their folder."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sinks.pathtemplate import NAME_BYTES_MAX, OTHERS, PathTemplate, as_name, day_and_hour

NOON = 1_795_780_800_000_000_000  # 2026-11-27 12:00 UTC
FULL = PathTemplate("/srv/logs/{tag}/x-{date}-{hour}.log")


def test_a_path_has_tag_date_and_hour() -> None:
    """Date and hour are those of the time of receipt, in UTC; the base is the folder before the first field."""
    assert day_and_hour(NOON) == ("2026-11-27", "12")
    assert FULL.path(b"app.web", NOON) == "/srv/logs/app.web/x-2026-11-27-12.log"
    assert FULL.path(OTHERS, NOON) == "/srv/logs/%others/x-2026-11-27-12.log"
    assert FULL.base == "/srv/logs"
    assert (PathTemplate("/a/b.log").base, PathTemplate("/b.log").base) == ("/a", "/")
    assert PathTemplate("/a/b.log").path(b"x", NOON) == "/a/b.log"
    assert PathTemplate("/{tag}.log").base == "/"


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        (b"app.web-1_x", "app.web-1_x"), (b"..", "%2E."), (b".", "%2E"), (b".hidden", "%2Ehidden"), (b"a/b", "a%2Fb"),
        (b"", "%"), (b"%", "%25"), (b"a b\n", "a%20b%0A"), ("ä".encode(), "%C3%A4"), (b"\0", "%00"),
    ],
)  # fmt: skip
def test_a_tag_becomes_a_part_of_a_name(tag: bytes, name: str) -> None:
    """What could leave the folder, hide a file or break a line is written in hexadecimal digits."""
    assert as_name(tag) == name


@given(st.lists(st.binary(max_size=300) | st.text("./%a", max_size=120).map(str.encode), min_size=2, unique=True))
def test_no_tag_leaves_the_folder_and_no_two_share_a_path(tags: list[bytes]) -> None:
    """Whatever the tags are, their paths are different names in the folder, short enough, and found again."""
    paths = [FULL.path(tag, NOON) for tag in tags]
    for path in paths:
        assert os.path.normpath(path) == path
        assert os.path.dirname(os.path.dirname(path)) == "/srv/logs"
        assert len(os.path.basename(os.path.dirname(path))) <= NAME_BYTES_MAX
        assert FULL.folders[0].fullmatch(path.split("/")[3])
        assert FULL.moment_of(path) == ("2026-11-27", "12")
        assert FULL.folder_of_tags(path) == "/srv/logs"
    assert len(set(paths)) == len(tags)
    assert FULL.path(OTHERS, NOON) not in paths


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/srv/{name}.log", "its fields are"), ("/srv/{tag.log", "its fields are"), ("/srv/a/", "a folder"),
        ("/srv/{tag}/../../etc/x", "contains `..`"), ("/srv/{tag}", "add .log"), ("/srv/{tag}.gz", "add .log"),
        ("/srv/{hour}.log", "no {date}"), (f"/srv/{'x' * 100}{{tag}}.log", "too long"),
        ("/" + "x/" * 300 + "a.log", "too long"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused(text: str, words: str) -> None:
    """Each error says what is wrong, or what would be right."""
    with pytest.raises(ValueError, match=words):
        PathTemplate(text)


@pytest.mark.parametrize(
    ("name", "stamp", "packed"),
    [
        ("app.log", None, None), ("app.log.20261127T051400Z", ".20261127T051400Z", None),
        ("app.log.20261127T051400Z-2.zst", ".20261127T051400Z-2", ".zst"), ("app.log.gz", None, ".gz"),
    ],
)  # fmt: skip
def test_names_of_its_files_are_recognised(name: str, stamp: str | None, packed: str | None) -> None:
    """Those that are written to, rotated, compressed; nothing else."""
    found = PathTemplate("/srv/{tag}.log").name.fullmatch(name)
    assert found is not None
    assert (found["stamp"], found["packed"]) == (stamp, packed)


@pytest.mark.parametrize(
    "name", ["app.txt", "app.log.tmp", "app.log.zst.tmp", "app.log.1", ".log", "a b.log", "app.log\n"]
)
def test_names_of_others_are_not(name: str) -> None:
    """What the sink cannot have made is not recognised."""
    assert PathTemplate("/srv/{tag}.log").name.fullmatch(name) is None


def test_the_moment_of_a_path() -> None:
    """A date that stands twice must be the same; a template without a date has no moment."""
    twice = PathTemplate("/srv/{date}/{tag}-{date}.log")
    assert twice.moment_of("/srv/2026-11-27/a-2026-11-27.log.20261128T000000Z.zst") == ("2026-11-27", "")
    assert twice.moment_of("/srv/2026-11-27/a-2026-11-28.log") is None
    assert twice.moment_at(NOON) == ("2026-11-27", "")
    assert PathTemplate("/srv/a.log").moment_of("/srv/a.log") is None
    assert PathTemplate("/srv/a.log").moment_at(NOON) == ("", "")
    assert PathTemplate("/srv/a.log").folder_of_tags("/srv/a.log") is None
    assert PathTemplate("/{tag}.log").folder_of_tags("/a.log") == "/"


def test_a_tag_of_the_template_is_found_in_names() -> None:
    """Also a name of somebody else counts, and a finished file does not."""
    template = PathTemplate("/srv/{tag}-{date}.log")
    assert template.tag_in("/srv", "/srv/a-b-2026-11-27.log") == "a-b"
    assert template.tag_in("", "a-2026-11-27.log.20261127T000000Z.gz") is None
    assert template.tag_in("", "notes") == "notes"
    assert PathTemplate("/{tag}/a.log").tag_in("/", "/app/a.log") == "app"
