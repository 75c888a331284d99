"""
Access rules: which peers may send messages, read the hub's state, and control the hub.

A *rule* names peers: ``uid:1000``, ``user:www-data``, ``gid:33``, ``group:adm``, ``comm:nginx`` or ``all``. A peer that
a ``deny`` rule names is refused. Otherwise a peer that an ``allow`` rule names is allowed. Without ``allow`` rules,
every peer may send, and no peer may read or control. The hub's own user and root have every right that no ``deny`` rule
takes from them.

A *grant* does the same for some methods, and for reading the messages under some tags. Without grants, nobody but the
hub's own user and root may read messages. `TagRights` is the one place where it is decided who may read which.

Always true:
- a change of the rules takes effect at once, also for open connections;
- every refusal is counted, but reported as a loss at most once a second per user, so that refused messages cannot fill
  the journal;
- if the groups of a peer are unknown, a ``deny`` rule by group names it and an ``allow`` rule by group does not.

A process chooses its own command name, so ``comm`` rules are a convenience and no protection against an attacker. If
the kernel does not identify a peer (macOS), only the rule ``all`` names it, and what is not denied is allowed, except
reading messages.

A host on a network may send at most: if there are ``allow`` rules for sending, one of them must name it, ``all`` or
``comm`` with its address or the name in its certificate.

Not here: how a refusal is reported (hub.intake, hub.dispatch).
"""

from __future__ import annotations

import fnmatch
import functools
import grp
import os
import pwd
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Self

from hub.message import Peer

Right = Literal["send", "read", "control"]
RIGHTS: tuple[Right, ...] = ("send", "read", "control")
MethodRight = Right | Literal["messages"]
"""The requirement of a method: a right, or that its caller may read messages under some tag."""
REPORT_S = 1.0
REPORTED_USERS_MAX = 1024
"""Maximum users with a count of unreported refusals. Beyond it, the least recently refused user's count is lost."""
_TAGS_KEPT = 128
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


class UserId(int):
    """The id of a user of this host, written as a name or a number."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the user in *given*. Raises ValueError if this host has no user of that name."""
        if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
            return cls(given)
        if not isinstance(given, str) or not given:
            raise ValueError(f"not a user: {given!r} (write the name or the number)")
        kind = "uid" if given.isdecimal() else "user"
        return cls(int(Rule.parse(f"{kind}:{given}").value))


class Rules(NamedTuple):
    """The rules for one right. A peer that a rule of *deny* names is refused, even if *allow* names it."""

    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()


class Grant(NamedTuple):
    """
    Rules for calling the JSON-RPC methods that one of the globs *methods* matches, and for reading the messages under
    the tags that one of the globs *read* matches.
    """

    rules: Rules
    methods: tuple[str, ...] = ()
    read: tuple[str, ...] = ()


class TagRights:
    """The tags whose messages a peer may read: those that one of *allow* matches, and none of *deny*."""

    __slots__ = ("allow", "deny", "may_read")

    def __init__(self, allow: Iterable[str] = (), deny: Iterable[str] = ()) -> None:
        self.allow: tuple[str, ...] = tuple(allow)
        self.deny: tuple[str, ...] = tuple(deny)
        self.may_read: Callable[[str], bool] = _reads(self.allow, self.deny)
        """Return whether messages under a tag may be read."""

    def __bool__(self) -> bool:
        """Whether some messages may be read."""
        return bool(self.allow) and "*" not in self.deny


@functools.lru_cache(maxsize=64)
def _reads(allow: tuple[str, ...], deny: tuple[str, ...]) -> Callable[[str], bool]:
    """
    Return a function that remembers some tags, because readers ask for each batch. All peers with the same rights have
    the same one: tags may be long.
    """
    allows, denies = _match(allow), _match(deny)
    return functools.lru_cache(maxsize=_TAGS_KEPT)(lambda tag: allows(tag) is not None and denies(tag) is None)


def _match(globs: tuple[str, ...]) -> Callable[[str], object]:
    return re.compile("|".join(map(fnmatch.translate, globs)) or "(?!)").match


class Access:
    """
    The rules in force.

    *rules* maps ``"send"``, ``"read"`` and ``"control"`` to the `Rules` for that right. *methods* maps JSON-RPC methods
    to the right that they require; the others require none. *grants* are further rules, for methods and for tags.
    *clock* returns seconds, and serves the tests.
    """

    def __init__(
        self,
        rules: Mapping[Right, Rules] | None = None,
        *,
        methods: Mapping[str, MethodRight] | None = None,
        grants: Sequence[Grant] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._rules: Mapping[Right, Rules] = rules or {}
        self._grants = tuple(grants)
        self.methods: Mapping[str, MethodRight] = methods or {}
        """The right that each command requires. Commands that are not listed require none."""
        self._unreported: OrderedDict[int, tuple[float, int]] = OrderedDict()  # by uid: last report (s), refusals since
        self.version: int = 0
        """Rises with each change of the rules."""

    def change(self, rules: Mapping[Right, Rules], grants: Sequence[Grant] = ()) -> None:
        """Replace the rules and the grants."""
        self._rules = rules
        self._grants = tuple(grants)
        self.version += 1

    def admits(self, peer: Peer, groups: Groups) -> bool:
        """
        Return whether *peer*, a member of *groups*, may use a socket that no file protects: it is the hub's own user or
        root, or a rule allows it something.
        """
        allow = [rule for rules in self._rules.values() for rule in rules.allow]
        allow += [rule for grant in self._grants for rule in grant.rules.allow]
        return is_own(peer) or any(rule.names(peer, groups, if_unknown=False) for rule in allow)

    def may(self, right: Right, peer: Peer, groups: Groups, *, is_open: bool = True) -> bool:
        """
        Return whether *peer*, a member of *groups*, has the right. *is_open*: every client that can connect
        may send, unless the rules say otherwise.
        """
        rules = self._rules.get(right, Rules())
        if any(rule.names(peer, groups, if_unknown=True) for rule in rules.deny):
            return False
        if peer.is_remote and right != "send":
            return False
        if (not peer.verified and not peer.is_remote) or is_own(peer):
            return True
        if any(rule.names(peer, groups, if_unknown=False) for rule in rules.allow):
            return True
        return right == "send" and is_open and not rules.allow

    def may_call(self, method: str, peer: Peer, groups: Groups) -> bool:
        """Return whether *peer*, a member of *groups*, may call *method*. A peer of another host may call none."""
        if peer.is_remote:
            return False
        grants = [
            each.rules for each in self._grants if any(fnmatch.fnmatchcase(method, glob) for glob in each.methods)
        ]
        right = self.methods.get(method)
        rules = Rules() if right is None or right == "messages" else self._rules.get(right, Rules())
        if any(rule.names(peer, groups, if_unknown=True) for each in (rules, *grants) for rule in each.deny):
            return False
        if right is None:
            return True
        if right == "messages":
            return bool(self.tags(peer, groups))
        return self.may(right, peer, groups) or any(
            rule.names(peer, groups, if_unknown=False) for each in grants for rule in each.allow
        )

    def tags(self, peer: Peer, groups: Groups) -> TagRights:
        """Return under which tags *peer*, a member of *groups*, may read messages; a peer of another host, none."""
        if peer.is_remote:
            return TagRights()
        allow = ["*"] if is_own(peer) else []
        deny: list[str] = []
        for rules, _, read in self._grants:
            if any(rule.names(peer, groups, if_unknown=True) for rule in rules.deny):
                deny += read
            elif any(rule.names(peer, groups, if_unknown=False) for rule in rules.allow):
                allow += read
        return TagRights(allow, deny)

    def note_refusal(self, peer: Peer, count: int) -> int:
        """
        Count *count* refusals of the peer's user.

        Return the number of refusals to report now; 0 if the last report is less than `REPORT_S` old.
        """
        now = self._clock()
        reported_at, unreported = self._unreported.pop(peer.uid, (now - REPORT_S, 0))
        is_due = now - reported_at >= REPORT_S
        self._unreported[peer.uid] = (now, 0) if is_due else (reported_at, unreported + count)
        if len(self._unreported) > REPORTED_USERS_MAX:
            self._unreported.popitem(last=False)
        return unreported + count if is_due else 0


def is_own(peer: Peer) -> bool:
    """Return whether *peer* is the hub's own user, or root."""
    return peer.verified and peer.uid in (0, os.geteuid())


class Gate:
    """
    The rights of one connection, cached until the rules change.

    *groups* returns the groups of the peer; after a change of the rules, it is called once for each right, each method
    and the tags, when they are first asked for. *is_open*: see `Access.may`.
    """

    __slots__ = ("_access", "_groups", "_is_open", "_methods", "_peer", "_rights", "_tags", "_version")

    def __init__(self, access: Access, peer: Peer, groups: Callable[[], Groups], *, is_open: bool = True) -> None:
        self._is_open = is_open
        self._access = access
        self._peer = peer
        self._groups = groups
        self._version = -1
        self._rights: dict[Right, bool] = {}
        self._methods: dict[str, bool] = {}
        self._tags: TagRights | None = None

    def may(self, right: Right) -> bool:
        """Return whether the peer has the right under the current rules."""
        if self._version != self._access.version:
            self._renew()
        may = self._rights.get(right)
        if may is None:
            groups = self._groups()
            may = self._rights[right] = self._access.may(right, self._peer, groups, is_open=self._is_open)
        return may

    def may_call(self, method: str) -> bool:
        """Return whether the peer may call *method*, one that there is, under the current rules."""
        if self._version != self._access.version:
            self._renew()
        may = self._methods.get(method)
        if may is None:
            may = self._methods[method] = self._access.may_call(method, self._peer, self._groups())
        return may

    @property
    def tags(self) -> TagRights:
        """Under which tags the peer may read messages, under the current rules."""
        if self._version != self._access.version:
            self._renew()
        if self._tags is None:
            self._tags = self._access.tags(self._peer, self._groups())
        return self._tags

    def right_to(self, method: str) -> MethodRight | None:
        """Return the right that a command requires; None if it requires none."""
        return self._access.methods.get(method)

    def _renew(self) -> None:
        self._rights, self._methods, self._tags = {}, {}, None
        self._version = self._access.version

    def refuse(self, count: int) -> int:
        """Count *count* refusals of this peer; return the number of refusals to report now."""
        return self._access.note_refusal(self._peer, count)
