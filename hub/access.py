"""
Access rules: which peers may send messages, read the hub's state, and control the hub.

A *rule* names peers: ``uid:1000``, ``user:www-data``, ``gid:33``, ``group:adm``, ``comm:nginx`` or ``all``. A peer that
a ``deny`` rule names is refused. Otherwise a peer that an ``allow`` rule names is allowed. Without ``allow`` rules,
every peer may send, and no peer may read or control. The hub's own user and root have every right that no ``deny`` rule
takes from them.

Always true:
- a change of the rules takes effect at once, also for open connections;
- every refusal is counted, but reported as a loss at most once a second per user, so that refused messages cannot fill
  the journal;
- if the groups of a peer are unknown, a ``deny`` rule by group names it and an ``allow`` rule by group does not.

A process chooses its own command name, so ``comm`` rules are a convenience and no protection against an attacker. If
the kernel does not identify a peer (macOS), only the rule ``all`` names it, and what is not denied is allowed.

Not here: how a refusal is reported (hub.intake, hub.connection).
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
REPORT_S = 1.0
SAID_MAX = 1024
"""Maximum users with a count of unreported refusals. Beyond it, the least recently refused user's count is lost."""
_KINDS = ("uid", "user", "gid", "group", "comm")


Groups = frozenset[int] | None
"""The groups of a peer; None if they are unknown."""


class Rule(NamedTuple):
    """One rule: *kind* is ``uid``, ``gid``, ``comm`` or ``all``; *text* is the rule as written."""

    kind: str
    value: int | str
    text: str

    def names(self, peer: Peer, groups: Groups, *, if_unknown: bool) -> bool:
        """
        Return whether this rule names *peer*, a member of *groups*.

        Return *if_unknown* for a rule by group if *groups* is None.
        """
        if self.kind == "uid":
            return peer.uid == self.value
        if self.kind == "gid":
            return if_unknown if groups is None else self.value in groups
        return self.kind == "all" or peer.comm == self.value


def parse_rule(text: str) -> Rule:
    """Parse a rule. Raises ValueError for invalid text and for a user or group that does not exist on this host."""
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
    """The rules for one right."""

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
        """The right that each command requires. Commands that are not listed require none."""
        self._unreported: OrderedDict[int, tuple[float, int]] = OrderedDict()  # by uid: last report (s), refusals since
        self.version = 0
        """Rises with each change of the rules."""

    def change(self, rules: Mapping[Right, Rules]) -> None:
        """Replace the rules."""
        self._rules = rules
        self.version += 1

    def may(self, right: Right, peer: Peer, groups: Groups) -> bool:
        """Return whether *peer*, a member of *groups*, has the right."""
        rules = self._rules.get(right, Rules())
        if any(rule.names(peer, groups, if_unknown=True) for rule in rules.deny):
            return False
        if not peer.verified or peer.uid in (0, os.geteuid()):
            return True
        if any(rule.names(peer, groups, if_unknown=False) for rule in rules.allow):
            return True
        return right == "send" and not rules.allow

    def note_refusal(self, peer: Peer, count: int) -> int:
        """
        Count *count* refusals of the peer's user.

        Return the number of refusals to report now; 0 if the last report is less than `REPORT_S` old.
        """
        now = self._clock()
        said, unreported = self._unreported.pop(peer.uid, (now - REPORT_S, 0))
        is_due = now - said >= REPORT_S
        self._unreported[peer.uid] = (now, 0) if is_due else (said, unreported + count)
        if len(self._unreported) > SAID_MAX:
            self._unreported.popitem(last=False)
        return unreported + count if is_due else 0


class Gate:
    """
    The rights of one connection, cached until the rules change.

    *groups* returns the groups of the peer; it is called once per change of the rules.
    """

    __slots__ = ("_access", "_groups", "_peer", "_rights", "_version")

    def __init__(self, access: Access, peer: Peer, groups: Callable[[], Groups]) -> None:
        self._access = access
        self._peer = peer
        self._groups = groups
        self._version = -1
        self._rights: dict[Right, bool] = {}

    def may(self, right: Right) -> bool:
        """Return whether the peer has the right under the current rules."""
        if self._version != self._access.version:
            groups = self._groups()
            self._rights = {each: self._access.may(each, self._peer, groups) for each in RIGHTS}
            self._version = self._access.version
        return self._rights[right]

    def right_to(self, method: str) -> Right | None:
        """Return the right that a command requires; None if it requires none."""
        return self._access.methods.get(method)

    def refuse(self, count: int) -> int:
        """Count *count* refusals of this peer; return the number of refusals to report now."""
        return self._access.note_refusal(self._peer, count)
