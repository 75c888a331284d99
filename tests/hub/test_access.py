"""hub.access: rules, and the rights that they give."""

import os
from collections.abc import Callable, Mapping

import pytest

from hub.access import REPORTED_USERS_MAX, RIGHTS, Access, Gate, Grant, MethodRight, Right, Rule, Rules
from hub.message import UNKNOWN_PEER, Peer
from hub.peer import peer_of_host

OTHER = Peer(pid=7, uid=4321, gid=54, comm="curl")


def rules(**given: str) -> Mapping[Right, Rules]:
    """Return rules from ``send_allow="uid:1 gid:2"`` and the like."""
    parsed = {name: tuple(map(Rule.parse, text.split())) for name, text in given.items()}
    return {right: Rules(parsed.get(f"{right}_allow", ()), parsed.get(f"{right}_deny", ())) for right in RIGHTS}


def allowed(peer: Peer = OTHER, **given: str) -> set[Right]:
    access = Access(rules(**given))
    return {right for right in RIGHTS if access.may(right, peer, frozenset((54, 77)))}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"send"}),
        ({"send_allow": "uid:4321"}, {"send"}),
        ({"send_allow": "uid:1 gid:77"}, {"send"}),
        ({"send_allow": "uid:1 gid:4321 comm:curly"}, set()),
        ({"send_deny": "comm:curl"}, set()),
        ({"send_allow": "all", "send_deny": "gid:54"}, set()),
        ({"read_allow": "comm:curl"}, {"send", "read"}),
        ({"read_allow": "all", "control_allow": "uid:4321", "control_deny": "uid:4320"}, {"send", "read", "control"}),
        ({"read_allow": "all", "read_deny": "all", "send_deny": "all"}, set()),
    ],
)
def test_deny_goes_before_allow_and_allow_before_the_default(given: dict[str, str], expected: set[str]) -> None:
    """Without rules for it, a foreign peer may send and nothing more."""
    assert allowed(OTHER, **given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"send"}),
        ({"send_deny": "gid:1"}, set()),
        ({"send_allow": "gid:54"}, set()),
        ({"send_allow": "gid:54 uid:4321"}, {"send"}),
        ({"read_allow": "all", "read_deny": "gid:1"}, {"send"}),
        ({"send_deny": "uid:1 comm:x"}, {"send"}),
    ],
)
def test_groups_that_nobody_knows(given: dict[str, str], expected: set[str]) -> None:
    """If the groups are unknown, a deny rule by group names the peer and an allow rule does not."""
    access = Access(rules(**given))
    assert {right for right in RIGHTS if access.may(right, OTHER, None)} == expected


@pytest.mark.parametrize("uid", [0, os.geteuid()])
def test_the_hubs_own_user_and_root_may_everything(uid: int) -> None:
    """Allow rules for others do not lock them out; deny rules do."""
    peer = Peer(pid=1, uid=uid, gid=1, comm="x")
    assert allowed(peer, send_allow="uid:4321") == set(RIGHTS)
    assert allowed(peer, read_deny=f"uid:{uid}") == {"send", "control"}


def test_a_peer_nobody_knows_is_named_by_no_rule() -> None:
    """No rule by uid names a peer that the kernel does not identify; it may do what is not denied."""
    assert allowed(UNKNOWN_PEER, send_allow="uid:1", read_deny="uid:1") == set(RIGHTS)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"send"}),
        ({"send_allow": "uid:0"}, set()),
        ({"send_allow": "comm:10.0.0.1"}, set()),
        ({"send_allow": "uid:0 comm:10.0.0.5"}, {"send"}),
        ({"send_allow": "all", "read_allow": "all", "control_allow": "comm:10.0.0.5"}, {"send"}),
        ({"send_deny": "comm:10.0.0.5"}, set()),
    ],
)
def test_a_host_on_a_network(given: dict[str, str], expected: set[str]) -> None:
    """It may send if a rule names it or there is none, and never more."""
    access = Access(rules(**given))
    host = peer_of_host("10.0.0.5")
    assert {right for right in RIGHTS if access.may(right, host, frozenset((host.gid,)))} == expected


@pytest.mark.parametrize(
    ("given", "admitted", "expected"),
    [
        ({}, False, set()),
        ({"send_deny": "uid:1"}, False, set()),
        ({"send_allow": "uid:1"}, False, set()),
        ({"send_allow": "uid:4321"}, True, {"send"}),
        ({"send_allow": "gid:54"}, True, {"send"}),
        ({"send_allow": "all"}, True, {"send"}),
        ({"read_allow": "uid:4321"}, True, {"read"}),
    ],
)
def test_a_socket_that_no_file_protects(given: dict[str, str], admitted: bool, expected: set[str]) -> None:
    """There, a foreign peer may do what a rule allows it, and cannot connect if that is nothing."""
    access = Access(rules(**given))
    groups = frozenset((54,))
    assert access.admits(OTHER, groups) == admitted
    gate = Gate(access, OTHER, lambda: groups, is_open=False)
    assert {right for right in RIGHTS if gate.may(right)} == expected
    assert access.admits(Peer(pid=1, uid=os.geteuid(), gid=1, comm="x"), None)


def test_a_grant_admits() -> None:
    """A peer that may call a method, or read the messages of a tag, may connect."""
    granted = Access(grants=[Grant(Rules(allow=(Rule.parse("uid:4321"),)), ("stats",))])
    assert (granted.admits(OTHER, None), granted.admits(Peer(uid=1), None)) == (True, False)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [("uid:0", "uid", 0), ("user:root", "uid", 0), ("gid:12", "gid", 12), ("group:root", "gid", 0),
     ("comm:a b", "comm", "a b"), ("all", "all", ""), (" uid:5 ", "uid", 5)],
)  # fmt: skip
def test_rules_are_read(text: str, kind: str, value: int | str) -> None:
    """Rules are parsed by number, name and command."""
    rule = Rule.parse(text)
    assert (rule.kind, rule.value) == (kind, value)


@pytest.mark.parametrize(
    ("text", "said"),
    [("root", "write it like"), ("uid:", "write it like"), ("uid:root", "or write user:root"),
     ("gid:-1", "not a number"), ("user:no-such", "no such user"), ("group:no-such", "getent group"),
     ("", "not a rule"), ("all:x", "not a rule")],
)  # fmt: skip
def test_what_is_no_rule_says_what_would_be(text: str, said: str) -> None:
    """The error has an example of a rule, or names where to look."""
    with pytest.raises(ValueError, match=said):
        Rule.parse(text)


def test_rules_are_values() -> None:
    """A rule equals another with the same text and meaning: a user that was renumbered is a change."""
    assert Rule.parse("uid:0") == Rule("uid", 0, "uid:0") != Rule.parse("user:root")
    assert Rule("uid", 1, "user:x") != Rule("uid", 2, "user:x")
    assert len({Rule.parse("all"), Rule.parse("all")}) == 1
    assert repr(Rule.parse("gid:5")) == "Rule('gid', 5, 'gid:5')"


def test_a_change_counts_for_open_connections() -> None:
    """The gate applies changed rules, and asks for the groups once for each right after a change."""
    asked = 0

    def groups() -> frozenset[int]:
        nonlocal asked
        asked += 1
        return frozenset((54,))

    access = Access(rules())
    gate = Gate(access, OTHER, groups)
    assert [gate.may("send"), gate.may("send"), asked] == [True, True, 1]
    access.change(rules(send_deny="gid:54"))
    assert [gate.may("send"), gate.may("send"), asked] == [False, False, 2]
    assert [gate.may("read"), gate.may("read"), asked] == [False, False, 3]


def test_refusals_are_told_of_once_a_second_for_each_user() -> None:
    """Refusals in between are added to the next report."""
    now = 100.0
    access = Access(clock=lambda: now)
    assert [access.note_refusal(OTHER, 3), access.note_refusal(OTHER, 4), access.note_refusal(OTHER, 5)] == [3, 0, 0]
    assert access.note_refusal(Peer(uid=9), 1) == 1
    now = 101.0
    assert [access.note_refusal(OTHER, 1), access.note_refusal(OTHER, 1)] == [10, 0]
    now = 102.0
    assert access.note_refusal(OTHER, 1) == 2, "what was reported before is not reported again"
    for uid in range(2 * REPORTED_USERS_MAX):
        access.note_refusal(Peer(uid=uid), 1)
    assert len(access._unreported) == REPORTED_USERS_MAX


def granted(*grants: Grant, groups: frozenset[int] | None = frozenset((54,)), peer: Peer = OTHER, **given: str) -> Gate:
    """Return the gate of *peer* under rules and grants; `stats` needs the right to read, `ping` none."""
    methods: dict[str, MethodRight] = {"stats": "read", "reload": "control", "tail": "messages"}
    return Gate(Access(rules(**given), methods=methods, grants=grants), peer, lambda: groups)


def allow(text: str) -> Rules:
    return Rules(allow=tuple(map(Rule.parse, text.split())))


def deny(text: str) -> Rules:
    return Rules(deny=tuple(map(Rule.parse, text.split())))


REMOTE = peer_of_host("192.0.2.7")


@pytest.mark.parametrize(
    ("grants", "given", "expected"),
    [
        ((), {}, {"ping"}),
        ((), {"read_allow": "all"}, {"ping", "stats"}),
        ((Grant(allow("uid:4321"), ("stats",)),), {}, {"ping", "stats"}),
        ((Grant(allow("gid:54"), ("*",)),), {}, {"ping", "stats", "reload"}),
        ((Grant(allow("uid:1"), ("stats",)),), {}, {"ping"}),
        ((Grant(allow("all"), ("stats",)),), {"read_deny": "uid:4321"}, {"ping"}),
        ((Grant(deny("uid:4321"), ("p*",)),), {"read_allow": "all"}, {"stats"}),
        ((Grant(allow("all"), ("stats",)), Grant(deny("all"), ("st*",))), {}, {"ping"}),
        ((Grant(allow("all"), (), ("app.*",)),), {}, {"ping", "tail"}),
        ((Grant(allow("all"), ("tail",)),), {}, {"ping"}),
        ((Grant(allow("all"), (), ("app.*",)), Grant(deny("all"), ("tail",))), {}, {"ping"}),
    ],
)
def test_rules_by_method(grants: tuple[Grant, ...], given: dict[str, str], expected: set[str]) -> None:
    """A rule that denies the method or its right goes before all others; to read messages, a tag has to be allowed."""
    gate = granted(*grants, groups=frozenset((54,)), peer=OTHER, **given)
    assert {method for method in ("ping", "stats", "reload", "tail") if gate.may_call(method)} == expected


def test_rules_by_method_where_groups_are_unknown() -> None:
    """A rule that denies a group names the peer, and one that allows a group does not: for methods and for tags."""
    gate = granted(Grant(allow("gid:54"), ("stats",), ("a",)), groups=None)
    assert not gate.may_call("stats")
    assert not gate.tags.may_read("a")
    both = Grant(Rules(deny=(Rule.parse("gid:1"),), allow=(Rule.parse("all"),)), ("ping",), ("a",))
    assert not granted(both, groups=None).may_call("ping")
    assert not granted(both, groups=None).tags


@pytest.mark.parametrize(
    ("peer", "grants", "readable"),
    [
        (OTHER, (), set()),
        (OTHER, (Grant(allow("all"), (), ("a.*", "c")),), {"a.b", "c"}),
        (OTHER, (Grant(allow("all"), (), ("*",)), Grant(deny("uid:4321"), (), ("a.*",))), {"c", "mpsr.loss"}),
        (OTHER, (Grant(allow("all"), (), ("*",)), Grant(deny("uid:4321"), (), ("*",))), set()),
        (Peer(1, os.geteuid()), (), {"a.b", "c", "mpsr.loss"}),
        (Peer(1, 0), (Grant(deny("uid:0"), (), ("c",)),), {"a.b", "mpsr.loss"}),
        (UNKNOWN_PEER, (), set()),
        (UNKNOWN_PEER, (Grant(allow("all"), (), ("c",)),), {"c"}),
        (Peer(1, 0, verified=False), (), set()),
        (REMOTE, (Grant(allow("all"), ("*",), ("*",)),), set()),
    ],
)
def test_rules_by_tag(peer: Peer, grants: tuple[Grant, ...], readable: set[str]) -> None:
    """Only the hub's own user and root read everything that is not denied; a peer nobody vouches for reads nothing."""
    tags = granted(*grants, peer=peer).tags
    assert {tag for tag in ("a.b", "c", "mpsr.loss") if tags.may_read(tag)} == readable
    assert bool(tags) is bool(readable)
    assert granted(*grants, peer=peer).may_call("ping") is (peer is not REMOTE)


def test_a_change_of_the_rules_counts_for_methods_and_tags() -> None:
    """Also for a gate that has answered before, and whichever is asked for first."""
    access = Access(methods={"stats": "read"})
    asked: list[Callable[[Gate], bool]] = [lambda gate: gate.may_call("stats"), lambda gate: gate.tags.may_read("a")]
    for first in asked:
        gate = Gate(access, OTHER, frozenset)
        assert not first(gate)
        access.change({}, [Grant(allow("all"), ("stats",), ("a",))])
        assert first(gate)
        access.change({})
        assert not first(gate)
