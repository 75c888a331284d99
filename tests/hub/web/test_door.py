"""hub.web.door: the token, the host, and who may read."""

from __future__ import annotations

import os

import pytest

from hub.access import Access, Gate, Grant, Rule, Rules
from hub.inbox import Inbox
from hub.intake import Admission, Intake
from hub.message import Peer
from hub.metrics import Metrics
from hub.opener import Opener
from hub.users import User
from hub.web.door import Door, has_token, is_address

OWN, OTHER = Peer(1, os.geteuid(), 2, "own"), Peer(3, 4321, 54, "other")


def intake(peer: Peer, access: Access | None = None) -> Intake:
    inbox = Inbox()
    opener = Opener(inbox.budget)
    gate = Gate(access or Access(), peer, lambda: frozenset((peer.gid,)))
    return Intake(Admission(peer, User(peer.uid), inbox, opener, Metrics(), gate))


def remote(host: str) -> Intake:
    return intake(Peer(uid=-5, comm=host, verified=False))


@pytest.mark.parametrize(
    ("header", "is_right"),
    [("Bearer secret", True), ("bearer  secret ", True), ("Bearer Secret", False), ("Bearer", False),
     ("Bearer ", False), ("Basic secret", False), ("secret", False), ("", False), ("Bearer secret\udcff", False)],
)  # fmt: skip
def test_tokens(header: str, *, is_right: bool) -> None:
    assert has_token(header, b"secret") == is_right


@pytest.mark.parametrize(
    ("host", "is_one"),
    [("127.0.0.1", True), ("127.0.0.1:8514", True), ("[::1]:80", True), ("[::1]", True), ("localhost:1", True),
     ("LocalHost", True), ("evil.example:8514", False), ("localhost.evil.example", False), ("", False),
     ("127.0.0.1.evil.example", False), ("evil.example", False), ("10.0.0.1:x", False)],
)  # fmt: skip
def test_hosts(host: str, *, is_one: bool) -> None:
    """A name can be pointed elsewhere, an address cannot."""
    assert is_address(host) == is_one


def test_a_path_needs_no_token() -> None:
    """The kernel says who connects; the host of the request means nothing."""
    door = Door(None)
    assert door.refusal("/messages", intake(OTHER), authorization="", host="anything") is None


@pytest.mark.parametrize(
    ("path", "peer", "header", "host", "status"),
    [
        ("/messages", "127.0.0.1", "", "127.0.0.1", 401),
        ("/messages", "127.0.0.1", "Bearer wrong", "127.0.0.1", 401),
        ("/messages", "10.0.0.9", "Bearer secret", "any.example", None),
        ("/healthz", "127.0.0.1", "", "127.0.0.1:8514", None),
        ("/healthz", "::1", "", "localhost", None),
        ("/metrics", "127.0.0.1", "", "evil.example", 403),
        ("/metrics", "127.0.0.1", "Bearer wrong", "127.0.0.1", 401),
        ("/readyz", "10.0.0.9", "", "10.0.0.1", 401),
        ("/healthz", "", "", "10.0.0.1", 401),
    ],
)
def test_an_address_needs_the_token(path: str, peer: str, header: str, host: str, status: int | None) -> None:
    """Everything but three answers to this host needs it; a page of a website gets none of them."""
    refusal = Door(lambda: b"secret").refusal(path, remote(peer), authorization=header, host=host)
    assert (None if refusal is None else refusal[0]) == status


def test_who_may_read() -> None:
    """On a path the rules hold; a request with the token may read everything."""
    access = Access(grants=[Grant(Rules(allow=(Rule.parse("uid:4321"),)), read=("app.*",))])
    door = Door(None)
    assert door.tags(intake(OWN)).may_read("any")
    assert not door.tags(intake(OTHER))
    assert door.tags(intake(OTHER, access)).may_read("app.web")
    assert not door.tags(intake(OTHER, access)).may_read("other")
    assert Door(lambda: b"secret").tags(remote("10.0.0.9")).may_read("any")
    assert door.may_see_figures(intake(OWN))
    assert not door.may_see_figures(intake(OTHER))
    assert Door(lambda: b"secret").may_see_figures(remote("127.0.0.1"))
