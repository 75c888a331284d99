"""
hub.query.query: which messages are wanted.
"""

import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

import hub.query.query
from hub import entries as codec
from hub.journal.reader import Gap
from hub.message import Batch, Home, Message, Peer
from hub.query.condition import Condition
from hub.query.level import LevelCondition, rank_of
from hub.query.query import Query
from hub.syslogfields import FACILITIES, LEVELS
from hub.wire.sysloglines import encode_entry


def batch_of(tag: bytes, *records: Any) -> Batch:
    parts = [codec.stamp(5) + msgspec.msgpack.encode(record) for record in records]
    return Batch(tag, codec.join(parts, len(parts)), len(parts), None)


def found(query: Query, *batches: Batch | Gap) -> list[tuple[str, Any]]:
    return [(message.tag, message.record.get("n")) for message in query.messages(iter(batches))]


THREE = [batch_of(b"app.web", {"n": 1}, {"n": 2}), batch_of(b"app.db", {"n": 3}), batch_of(b"\xff", {"n": 4})]


@pytest.mark.parametrize(
    ("tag", "numbers"),
    [
        (None, [1, 2, 3, 4]),
        ("*", [1, 2, 3, 4]),
        ("app.*", [1, 2, 3]),
        ("app.web", [1, 2]),
        ("app", []),
        ("*db", [3]),
        ("app.[dw]*", [1, 2, 3]),
        ("APP.*", []),
        ("�", [4]),
        ("app?web", [1, 2]),
        ("!app.web", [3, 4]),
        (("app.*", "!*.db"), [1, 2]),
        (("!app.web", "!app.db"), [4]),
        (("!app.*", "app.db"), []),
    ],
)
def test_tags_match_a_glob(tag: str | tuple[str, ...] | None, numbers: list[int]) -> None:
    """A glob matches the whole tag, case-sensitive; a tag that is not UTF-8 is matched in its displayed form."""
    assert [number for _, number in found(Query(tag=tag), *THREE)] == numbers


@pytest.mark.parametrize(
    ("grep", "numbers"),
    [
        ("time", [1, 3, 4]),
        ("^time$", [1]),
        ("time|refused", [1, 2, 3, 4]),
        ("TIME", []),
        ("(?i)TIME", [1, 3, 4]),
        ("key", []),
        ("7", []),
        ("", [1, 2, 3, 4]),
    ],
)
def test_strings_anywhere_in_the_record_are_searched(grep: str, numbers: list[int]) -> None:
    """A search covers strings at any depth, but neither keys nor numbers."""
    records = [
        {"n": 1, "message": "time"},
        {"n": 2, "a": {"b": [1, {"c": "refused"}]}, "key": 7},
        {"n": 3, "a": [["out of time"]]},
        {"n": 4, "a": {"b": "timeout"}, "key": None},
    ]
    assert [number for _, number in found(Query(grep=grep), batch_of(b"t", *records))] == numbers


@pytest.mark.parametrize(("grep", "numbers"), [("TIME", [1]), ("t.ME", [1]), ("straSSe", [2]), ("É", [3])])
def test_a_search_may_ignore_case(grep: str, numbers: list[int]) -> None:
    """Letters of all alphabets are found, whatever the bytes are."""
    records = [{"n": 1, "a": "a time"}, {"n": 2, "a": "STRASSE"}, {"n": 3, "a": "é"}]
    assert [number for _, number in found(Query(grep=grep, ignore_case=True), batch_of(b"t", *records))] == numbers


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        ({"uid": 1000}, [1]),
        ({"comm": "py*"}, [1, 2]),
        ({"comm": "sh"}, []),
        ({"uid": 0, "comm": "python"}, [2]),
        ({"unit": "nginx"}, [1]),
        ({"unit": "nginx.*"}, [1]),
        ({"unit": "ngi"}, []),
        ({"unit": "*"}, [1]),
        ({"unit": "*.scope"}, [2]),
        ({"container": "abc"}, [2]),
        ({"container": "abcd"}, []),
        ({"container": "web"}, [3]),
        ({"container": "w*"}, [3]),
        ({"container": "we"}, []),
        ({"unit": "nginx", "uid": 0}, []),
    ],
)
def test_the_writer_is_a_filter(filters: dict[str, Any], numbers: list[int]) -> None:
    """Its user, the name of its command, its unit and its container, as the kernel reported them."""
    peers = (
        Peer(1, 1000, 1, "python3", cgroup="/system.slice/nginx.service"),
        Peer(2, 0, 0, "python", cgroup=f"/system.slice/docker-{'abc0' * 16}.scope"),
        Peer(3, 5, 5, "bash", cgroup="/lxc/web"),
    )
    batches = [
        msgspec.structs.replace(batch_of(b"t", {"n": number}), peer=peer) for number, peer in enumerate(peers, 1)
    ]
    assert [number for _, number in found(Query(**filters), *batches)] == numbers


def test_the_host_is_a_filter() -> None:
    """Only messages that another hub has stored first have a host."""
    homes = (Home("web-3", b"", 1, 1), None, Home("web-12", b"", 1, 1), Home("db", b"", 1, 1))
    batches = [msgspec.structs.replace(batch_of(b"t", {"n": number}), home=home) for number, home in enumerate(homes)]
    for host, numbers in {"web-3": [0], "web-*": [0, 2], "*": [0, 2, 3], "web": [], "": []}.items():
        assert [number for _, number in found(Query(host=host), *batches)] == numbers


def test_batches_of_other_tags_are_not_decoded() -> None:
    """Unwanted batches are not decoded, so they cost nothing and cannot fail."""

    class Undecodable(Batch, frozen=True):
        def messages(self) -> Iterator[Message]:
            raise AssertionError("decoded")

    assert found(Query(tag="a"), Undecodable(b"b", b"", 1)) == []


def test_a_gap_passes_every_filter_but_the_tags() -> None:
    """A gap passes every filter except the tag's, because any message may be missing."""
    gap = Gap(5, 3, "gone", "there", 0)
    for query, shown in (
        (Query(), 1),
        (Query(grep="nowhere to be found"), 1),
        (Query(tag="mpsr.*", grep="x"), 1),
        (Query(tag="app.*"), 0),
    ):
        assert [message.sequence for message in query.messages(iter([gap]))] == [5] * shown


def test_a_gap_that_may_have_begun_before_the_end_of_a_period() -> None:
    """It is shown at that end, if it is not known to have begun later; then it ends the period."""
    gap = Gap(5, 3, "gone", "there", 70, earliest=30)
    for until, shown in ((80, [70]), (70, [70]), (69, [69]), (30, [30]), (29, [])):
        query = Query(until=until)
        assert [message.received for message in query.messages(iter([gap]))] == shown
        assert query.is_after(gap) == (not shown)


def test_an_entry_that_cannot_be_read_is_a_loss_at_its_place() -> None:
    """An unreadable entry is returned as a loss in its place, and no condition on fields matches it."""
    odd = Batch(b"t", codec.join([b"\x05", codec.stamp(5) + b"\x81\xa1n\x01"], 2), 2, None)
    assert found(Query(), odd) == [("mpsr.loss.client", None), ("t", 1)]
    assert found(Query(grep="unreadable"), odd) == []


def test_the_fields_of_a_line_of_syslog_are_found() -> None:
    """Conditions, levels and texts are those of the fields, although only the line is stored."""
    lines = [b"<12>Nov 26 10:00:00 web1 app[7]: hot", b"<14>other: cold", b"plain"]
    entries = [
        encode_entry(lines[0]),
        encode_entry(lines[1]),
        codec.UNSTAMPED + msgspec.msgpack.encode({"message": "plain"}),
    ]
    bad = encode_entry(b"<11>app: \xff broken")
    for batch in (
        Batch(b"syslog", codec.join(entries, 3), 3),
        Batch(b"syslog", memoryview(codec.join([*entries, bad], 4)), 4),  # read entry by entry
    ):
        for wanted, texts in (
            (Query(where=[Condition("app=app")], level="warning", pid=0), ["hot"]),
            (Query(where=[Condition("procid<=7"), Condition("facility=user")]), ["hot"]),
            (Query(level="warning"), ["hot"]),
            (Query(grep="warning"), ["hot"]),
            (Query(grep="inf|cold"), ["cold"]),
            (Query(grep="^plain$"), ["plain"]),
            (Query(grep="nowhere"), []),
        ):
            found = [message.record["message"] for message in wanted.messages(iter((batch,)))]
            assert [text for text in found if "broken" not in text] == texts


def test_the_words_of_syslog_are_all_there() -> None:
    """What a batch with lines of syslog is searched for beside its bytes are the names that their fields may have."""
    assert hub.query.query._SYSLOG_WORDS.decode().split("\n") == [*LEVELS, *FACILITIES]
    line = Batch(b"syslog", codec.join((encode_entry(b'<12>1 - h - - - [a b="x\\]y"] z'),), 1), 1)
    found = {"x]y": True, "warn": True, "user$": True, "nobody": False, "z|q": True, "q|Q": False}
    for wanted, is_found in found.items():
        assert bool(list(Query(grep=wanted).messages(iter((line,))))) is is_found, wanted
    plain = Batch(b"syslog", codec.join((encode_entry(b"<12>x"),), 1), 1)
    texts = ("x", "nobody", "q|Q", "warning", "warn|q")
    assert [Query(grep=text)._finds(bytes(plain.entries)) is None for text in texts] == [
        False, True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize("level", ["debug", "info", "error", "critical"])
def test_levels_are_those_of_the_records(level: str) -> None:
    """Only entries with such a level are decoded, and they are those that a look at each record finds."""
    rng = random.Random(7)
    for _ in range(60):
        names: list[Any] = rng.choice(
            [["info"], ["info", "error"], ["debug", "info", "warn", 3, None, "critical", "?"]]
        )
        keys = rng.choice([["level"], ["level", "severity"]])
        records = [{"n": n, rng.choice(keys): rng.choice(names)} for n in range(rng.choice([3, 20]))]
        batch = batch_of(b"a", *records, *rng.choice([(), (7,)]))
        least = LevelCondition(level).rank
        expected = [each for each in batch.messages() if (rank := rank_of(each.record)) is not None and rank >= least]
        assert [*Query(level=level).messages(iter([batch]))] == expected
        where = Condition("n>3")
        found = Query(level=level, where=[where]).messages(iter([batch]))
        assert [*found] == [each for each in expected if where.holds(each.record)]
