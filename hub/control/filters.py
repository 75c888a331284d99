"""
The filters of a query as callers give them: the names of `mpsr logs`, and texts as people write them.

Always true: a wrong value is an `InvalidParams` that names its filter.

Only the hub's own user and root may give any regular expression. Other users may give only expressions whose search
takes time in proportion to the text: without groups and repetition, so that nothing is tried again. A search holds the
interpreter until it ends, and an expression can be written for which it does not end. The globs of others are bounded,
too (hub.control.globs).

Not here: what a filter selects (hub.query.query).
"""

from __future__ import annotations

import pwd
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hub.control import globs
from hub.errors import InvalidParams
from hub.quantities import parse_moment
from hub.query.condition import Condition
from hub.query.query import Query

T = TypeVar("T")
GREP_CHARS_MAX = 32
"""
The longest expression that users other than root and the hub's own may give. At worst, all of it is compared at each
place of a text: a tenth of a second for the longest text.
"""
_LINEAR = re.compile(r"(?:[^\\^$*+?{}\[\]()]|\\[^\w\s]|\\[bBdDsSwW]|[\^$]|\[\^?[\w .,:;/=@#%&!~'\"<>|-]+\])*").fullmatch


_GLOBS = ("comm", "unit", "container", "host")


QueryT = TypeVar("QueryT", bound=Query)


def query_of(  # noqa: PLR0913  one for each filter
    make: Callable[..., QueryT],
    *,
    is_trusted: bool,
    tag: str | Sequence[str] = (),
    grep: str | None = None,
    ignore_case: bool = False,
    invert_match: bool = False,
    where: str | Sequence[str] = (),
    level: str | None = None,
    since: str | int | None = None,
    until: str | int | None = None,
    uid: str | int | None = None,
    **others: Any,
) -> QueryT:
    """
    Return the query with these filters, which *make* makes. *is_trusted*: any expression may be searched for.

    *since* and *until* are nanoseconds since the epoch, or moments as `mpsr logs` takes them; *uid* is a number or a
    name. *others* are *pid*, *comm*, *unit*, *container* and *host*. Raises InvalidParams.
    """
    now = time.time_ns()
    if not is_trusted:
        tags = [tag] if isinstance(tag, str) else tag
        globs.check([*tags, *(others.get(name) or "" for name in _GLOBS)], "tag")
    if grep is not None:
        if not is_trusted and (len(grep) > GREP_CHARS_MAX or _LINEAR(grep) is None):
            who = f"for others than the hub's own user: {GREP_CHARS_MAX} characters, no group, no repetition"
            raise InvalidParams(f"grep: {who} (text, [...], . and |)", param="grep")
        _of("grep", re.compile, grep)
    elif invert_match:
        raise InvalidParams("invert_match needs grep: it shows what that does not find", param="invert_match")
    return _of(
        "level",
        lambda level: make(
            tag=[tag] if isinstance(tag, str) else tag,
            grep=grep,
            ignore_case=ignore_case,
            invert_match=invert_match,
            where=[_of("where", Condition, text) for text in ([where] if isinstance(where, str) else where)],
            level=level,
            since=_of("since", parse_moment, since, now) if isinstance(since, str) else since,
            until=_of("until", parse_moment, until, now) if isinstance(until, str) else until,
            uid=_of("uid", _uid_of, uid) if isinstance(uid, str) else uid,
            **others,
        ),
        level,
    )


def _of(name: str, parse: Callable[..., T], *given: Any) -> T:
    """Return what *parse* makes of a value. Raises InvalidParams with the *name* of its filter."""
    try:
        return parse(*given)
    except (ValueError, re.error, RecursionError, OverflowError) as error:
        raise InvalidParams(f"{name}: {error}", param=name) from error


def _uid_of(text: str) -> int:
    if text.isdecimal():
        return int(text)
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise ValueError(f"no such user: {text!r} (a name or a number)") from None
