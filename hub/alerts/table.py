"""
A table ``[[alerts]]`` of the configuration: which messages, how many of them, and how they are reported.

Always true: an alert has exactly one way to report: a web hook, a command, or a message in the journal.

Not here: when it fires (hub.alerts.window), what a report holds (hub.alerts.firing).
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from typing import Annotated, Literal, Self

import msgspec

from hub.access import UserId
from hub.paths import AbsolutePath
from hub.quantities import Duration
from hub.query.condition import Condition
from hub.query.query import Query
from hub.sinks.destination import Header, Url
from hub.sinks.kinds import SinkTable
from hub.sinks.values import Span

ALERTS_MAX = 16
"""Each has a thread that reads the whole journal."""
COUNT_MAX = 10_000
"""The times of as many matches are stored with the cursor of an alert, once a second."""
CURSOR_PREFIX = "alert."
"""No name of a sink has a dot, so that an alert and a sink may have the same name."""
NEVER, NOT_DEAD = "!mpsr.alert", "!mpsr.dead"
"""Tags that alerts do not count: their own, which could make them fire for ever, and, if unasked, dead letters."""
_PAUSE = 300
NO_COUNT = "count is above 1, so it needs a time (add within, such as 1m)"


class Regex(str):
    """A regular expression, as ``mpsr logs --grep`` takes it."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the expression in the text *given*. Raises ValueError."""
        if not isinstance(given, str):
            raise ValueError(f"not a regular expression: {given!r} (write it like timeout|refused)")
        try:
            re.compile(given)
        except re.error as error:
            raise ValueError(f"not a regular expression: {given!r} ({error})") from None
        return cls(given)


class HookUrl(Url):
    """The URL of a web hook. Its path is often a secret, so it is not shown."""

    __slots__ = ()
    path_default = "/"

    @property
    def shown(self) -> str:
        return f"{self.partition(':')[0]}://{self.authority}/"


class PageUrl(str):
    """The address of the hub's page, as people reach it."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the address in the text *given*. Raises ValueError."""
        return cls(HookUrl.parse(given.partition("#")[0] if isinstance(given, str) else given))


Count = Annotated[int, msgspec.Meta(ge=1, le=COUNT_MAX)]
Pid = Annotated[int, msgspec.Meta(ge=0)]


class Alert(SinkTable, frozen=True, kw_only=True):
    """
    It fires when *count* messages that pass the filters were received *within* a time, and is quiet for *pause* then.

    It reports to *url* in the form *template*, or to *command*; without either, with a message in the journal. *link*
    is the address of the page. *timeout*: how long a report may take.
    """

    grep: Regex | None = None
    ignore_case: bool = False
    invert_match: bool = False
    pid: Pid | None = None
    uid: UserId | None = None
    comm: str | None = None
    unit: str | None = None
    container: str | None = None
    host: str | None = None
    count: Count = 1
    within: Span | None = None
    pause: Duration = Duration(_PAUSE)
    url: HookUrl | None = None
    template: Literal["json", "slack", "ntfy"] = "json"
    headers: tuple[Header, ...] = ()
    headers_file: AbsolutePath | None = None
    tls_ca: AbsolutePath | None = None
    command: tuple[str, ...] = ()
    timeout: Span = Span(30)
    link: PageUrl | None = None

    def __post_init__(self) -> None:
        if self.count > 1 and self.within is None:
            raise ValueError(NO_COUNT)
        if self.invert_match and self.grep is None:
            raise ValueError("invert_match needs grep: it selects the messages in which grep finds nothing")
        if self.url is not None and self.command:
            raise ValueError("an alert has a url or a command, not both (write a second alert)")
        if self.url is None and (self.template != "json" or self.headers or self.headers_file or self.tls_ca):
            raise ValueError("template, headers, headers_file and tls_ca are for a web hook (add url)")
        if self.tls_ca is not None and self.url is not None and not self.url.is_tls:
            raise ValueError(f"{self.url.shown} does not use TLS (write https://, or leave out tls_ca)")
        if self.command and not os.path.isabs(self.command[0]):
            raise ValueError('a command begins with an absolute path (write it like ["/usr/local/bin/page", "--now"])')
        if any("\0" in part for part in self.command):
            raise ValueError("a command has a null character")

    @property
    def reports_by(self) -> Literal["webhook", "command", "message"]:
        """How it reports."""
        return "webhook" if self.url is not None else "command" if self.command else "message"

    @property
    def destination(self) -> str:
        return shlex.join(self.command) if self.url is None else self.url.shown

    @property
    def kind(self) -> str:
        return "alert"

    @property
    def is_sink(self) -> bool:
        return False

    @property
    def cursor(self) -> str:
        return CURSOR_PREFIX + self.name

    @property
    def reads_records(self) -> bool:
        """Whether only the record of a message shows if it matches."""
        return bool(self.level is not None or self.where or self.grep is not None)

    def query(self, *, since: int | None = None) -> Query:
        """
        Return which messages match. Reports of alerts never do, because an alert could fire for ever. Dead letters do
        only if a glob is about tags of the hub, as for sinks.
        """
        wants_dead = any(glob.startswith("mpsr.") for glob in self.tag)
        return Query(
            tag=(*self.tag, NEVER, *(() if wants_dead else (NOT_DEAD,))),
            level=self.level,
            where=[Condition(text) for text in self.where],
            grep=self.grep,
            ignore_case=self.ignore_case,
            invert_match=self.invert_match,
            pid=self.pid,
            uid=self.uid,
            comm=self.comm,
            unit=self.unit,
            container=self.container,
            host=self.host,
            since=since,
        )


def check_names(alerts: Iterable[Alert]) -> None:
    """Raise ValueError if there are too many *alerts*, or two have the same name."""
    names = [str(alert.name) for alert in alerts]
    if len(names) > ALERTS_MAX:
        raise ValueError(f"there are {len(names)} alerts (at most {ALERTS_MAX})")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two alerts have the name {twice} (choose another name)")
