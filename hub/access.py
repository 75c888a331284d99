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

Not here: how a refusal is reported (hub.intake, hub.dispatch).
"""

from __future__ import annotations

import grp
import os
import pwd
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, Self

from hub.message import Peer

Right = Literal["send", "read", "control"]
RIGHTS: tuple[Right, ...] = ("send", "read", "control")
REPORT_S = 1.0
SAID_MAX = 1024
"""Maximum users with a count of unreported refusals. Beyond it, the least recently refused user's count is lost."""
_KINDS = ("uid", "user", "gid", "group", "comm")


Groups = frozenset[int] | None
"""The groups of a peer; None if they are unknown."""


class Rule:
    """
    One rule: *kind* is ``uid``, ``gid``, ``comm`` or ``all``; *text* is the rule as written.

    Not a NamedTuple, which msgspec would read from a list in the configuration file instead of calling `parse`.
    """

    __slots__ = ("kind", "text", "value")

    def __init__(self, kind: str, value: int | str, text: str) -> None:
        self.kind: str = kind
        self.value: int | str = value
        self.text: str = text

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the rule in the text *given*. Raises ValueError, also if no such user or group exists on this host."""
        kind, colon, value = given.strip().partition(":") if isinstance(given, str) else ("", "", "")
        if kind == "all" and not colon:
            return cls("all", "", "all")
        if not isinstance(given, str) or kind not in _KINDS or not value:
            form = "write it like uid:1000, user:www-data, group:adm, comm:nginx or all"
            raise ValueError(f"not a rule: {given!r} ({form})")
        try:
            if kind == "user":
                return cls("uid", pwd.getpwnam(value).pw_uid, given)
            if kind == "group":
                return cls("gid", grp.getgrnam(value).gr_gid, given)
        except KeyError:
            database = "passwd" if kind == "user" else "group"
            raise ValueError(f"no such {kind}: {value!r} (see `getent {database}`)") from None
        if kind == "comm":
            return cls(kind, value, given)
        if not value.isdecimal():
            raise ValueError(f"not a number: {value!r} (or write {'user' if kind == 'uid' else 'group'}:{value})")
        return cls(kind, int(value), given)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rule) and (self.kind, self.value, self.text) == (other.kind, other.value, other.text)

    def __hash__(self) -> int:
        return hash((self.kind, self.value, self.text))

    def __repr__(self) -> str:
        return f"Rule({self.kind!r}, {self.value!r}, {self.text!r})"

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


class Rules(NamedTuple):
    """The rules for one right. A peer that a rule of *deny* names is refused, even if *allow* names it."""

    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()


class Access:
    """
    The rules in force.

    *rules* maps ``"send"``, ``"read"`` and ``"control"`` to the `Rules` for that right. *methods* maps JSON-RPC methods
    to the right that they require; the others require none. *clock* returns seconds, and serves the tests.
    """

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
        self.version: int = 0
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
