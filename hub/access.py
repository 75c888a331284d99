"""
Who may do what: send messages, read what the hub knows, control it.

A *rule* names a peer: ``uid:1000``, ``user:www-data``, ``gid:33``, ``group:adm``, ``comm:nginx`` or ``all``. Whoever a
``deny`` rule names may not; else whoever an ``allow`` rule names may; without ``allow`` rules everybody may send, and
nobody read or control. The hub's own user and root may everything that no ``deny`` rule takes from them.

Always true:
- rules that change count at once, for connections that are open too;
- what is refused is counted; it is reported as a loss once a second for each user at most, so that nobody fills a
  journal by being refused;
- where the groups of a peer cannot be known, a ``deny`` rule by group names it, an ``allow`` rule by group does not.

Not here: what is refused how (hub.connection). A command name is what the process calls itself: a convenience, and no
protection from somebody who wants in. Where the kernel names no peers (macOS), no rule names anybody.
"""

from __future__ import annotations

import grp
import os
import pwd
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from hub.message import Peer

Right = Literal["send", "read", "control"]
RIGHTS: tuple[Right, ...] = ("send", "read", "control")
SAY_S = 1.0
SAID_MAX = 1024
"""Users whose refusals are remembered. One that is forgotten loses the count of what was not reported yet."""
_KINDS = ("uid", "user", "gid", "group", "comm")


Groups = frozenset[int] | None
"""The groups of a peer; None where they cannot be known."""


class Rule(NamedTuple):
    """One rule: *kind* is ``uid``, ``gid``, ``comm`` or ``all``; *text* is how it was written."""

    kind: str
    value: int | str
    text: str

    def names(self, peer: Peer, groups: Groups, *, if_unknown: bool) -> bool:
        """Return whether this rule names *peer*, which is in *groups*; *if_unknown* where only these could decide."""
        if self.kind == "uid":
            return peer.uid == self.value
        if self.kind == "gid":
            return if_unknown if groups is None else self.value in groups
        return self.kind == "all" or peer.comm == self.value


def parse_rule(text: str) -> Rule:
    """Return the rule that *text* is; ValueError for anything else, a user or group that is not here included."""
    kind, colon, value = text.strip().partition(":")
    if kind == "all" and not colon:
        return Rule("all", "", "all")
    if kind not in _KINDS or not value:
        raise ValueError(f"not a rule: {text!r} (write it like uid:1000, user:www-data, group:adm, comm:nginx or all)")
    try:
        if kind == "user":
            return Rule("uid", pwd.getpwnam(value).pw_uid, text)
        if kind == "group":
            return Rule("gid", grp.getgrnam(value).gr_gid, text)
    except KeyError:
        database = "passwd" if kind == "user" else "group"
        raise ValueError(f"no such {kind}: {value!r} (see `getent {database}`)") from None
    if kind == "comm":
        return Rule(kind, value, text)
    if not value.isdecimal():
        raise ValueError(f"not a number: {value!r} (or write {'user' if kind == 'uid' else 'group'}:{value})")
    return Rule(kind, int(value), text)


class Rules(NamedTuple):
    """What is said about one right."""

    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()


class Access:
    """The rules in force."""

    def __init__(
        self,
        rules: Mapping[Right, Rules] | None = None,
        *,
        methods: Mapping[str, Right] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._rules: Mapping[Right, Rules] = rules or {}
        self.methods: Mapping[str, Right] = methods or {}
        """The right that each command takes; the others are everybody's."""
        self._unsaid: OrderedDict[int, tuple[float, int]] = OrderedDict()  # by uid: when last reported, refusals since
        self.version = 0
        """Another one after each change."""

    def change(self, rules: Mapping[Right, Rules]) -> None:
        """Let other rules count from now on."""
        self._rules = rules
        self.version += 1

    def may(self, right: Right, peer: Peer, groups: Groups) -> bool:
        """Return whether *peer*, which is in *groups*, has the right."""
        rules = self._rules.get(right, Rules())
        if any(rule.names(peer, groups, if_unknown=True) for rule in rules.deny):
            return False
        if not peer.verified or peer.uid in (0, os.geteuid()):
            return True
        if any(rule.names(peer, groups, if_unknown=False) for rule in rules.allow):
            return True
        return right == "send" and not rules.allow

    def note_refusal(self, peer: Peer, count: int) -> int:
        """Take note of *count* refusals; return how many are to be told of now, 0 if some were a moment ago."""
        now = self._clock()
        said, unsaid = self._unsaid.pop(peer.uid, (now - SAY_S, 0))
        is_due = now - said >= SAY_S
        self._unsaid[peer.uid] = (now, 0) if is_due else (said, unsaid + count)
        if len(self._unsaid) > SAID_MAX:
            self._unsaid.popitem(last=False)
        return unsaid + count if is_due else 0


class Gate:
    """The rights of one connection; *groups* is asked when the rules are."""

    __slots__ = ("_access", "_groups", "_peer", "_rights", "_version")

    def __init__(self, access: Access, peer: Peer, groups: Callable[[], Groups]) -> None:
        self._access = access
        self._peer = peer
        self._groups = groups
        self._version = -1
        self._rights: dict[Right, bool] = {}

    def may(self, right: Right) -> bool:
        """Return whether the peer has the right, by the rules in force."""
        if self._version != self._access.version:
            groups = self._groups()
            self._rights = {each: self._access.may(each, self._peer, groups) for each in RIGHTS}
            self._version = self._access.version
        return self._rights[right]

    def right_to(self, method: str) -> Right | None:
        """Return the right that a command takes, if any."""
        return self._access.methods.get(method)

    def refuse(self, count: int) -> int:
        """Take note that something of this peer was refused; return how many refusals are to be told of now."""
        return self._access.note_refusal(self._peer, count)
