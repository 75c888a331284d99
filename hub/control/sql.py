"""
The method `sql`: a query of a caller, run by a process that can read no file but the journal.

Always true:
- the query sees only messages that its caller may read. If the caller's rights change, the query ends;
- the processes are bounded in number, memory and time. A process ends when its caller cancels or leaves;
- a result passes through the hub a line at a time, as fast as its caller reads.

Not here: what the process does (hub.control.sqlchild).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated

import msgspec

from hub.access import TagRights
from hub.budget import half_of_rest
from hub.control.sqlchild import Asked, Failed, Limits
from hub.control.typed import parameters_of, values_of
from hub.errors import CommandError
from hub.extras import without_extra
from hub.intake import Intake
from hub.journal.journal import Journal
from hub.wire.jsonrpc import NOT_ALLOWED, TOO_MANY, Request

CHILDREN_MAX = 4
"""Queries of all callers at once; a user may have half of what the others leave free, and at least one."""
ROWS, ROWS_MAX = 1_000, 10_000
SQL_CHARS_MAX = 16_384
LIMITS = Limits()
_LINE_BYTES_MAX = 512 << 10


class SqlParams(msgspec.Struct, kw_only=True):
    """The query, the most rows, the zone of times, and whether to report what was read."""

    query: Annotated[str, msgspec.Meta(min_length=1, max_length=SQL_CHARS_MAX)]
    limit: Annotated[int, msgspec.Meta(ge=1, le=ROWS_MAX)] = ROWS
    zone: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] = "UTC"
    progress: bool = False


_PARAMETERS = parameters_of(SqlParams)
_ADVICE = "add a condition on received, tag or level, or run it with mpsr sql on the host, which has no such limits"
_decode = msgspec.json.Decoder(Failed).decode


class Sql:
    """Runs queries over *journal*, each within *limits*."""

    def __init__(self, journal: Journal, limits: Limits = LIMITS) -> None:
        self._journal = journal
        self._limits = limits
        self._children = Counter[int]()  # by uid

    async def sql(self, request: Request, caller: Intake) -> AsyncIterator[msgspec.Raw]:
        """
        Stream the result of a query in SQL over the view `messages`: first ``columns``, the name and the type of each;
        then ``rows``, some at a time, all values as texts or null; last ``is_final``, ``is_cut`` (there were more
        rows), ``cut_values`` (values whose end is missing) and ``misfits``. Parameters: *query*; *limit*: how many rows
        (1000); *zone*: the time zone of times (``UTC``); *progress*: values with ``read``, the number of messages that
        were read, come in between (false). The data of an error has in ``at`` which characters of the query are wrong.
        """
        params = SqlParams(**values_of(request, _PARAMETERS))
        if fault := without_extra("SQL", "sql"):
            raise CommandError(fault)
        uid, rights = caller.peer.uid, caller.gate.tags
        most = max(half_of_rest(CHILDREN_MAX, self._children.total() - self._children[uid]), 1)
        if self._children[uid] >= most or self._children.total() >= CHILDREN_MAX:
            raise CommandError(f"uid {uid} already has {self._children[uid]} queries in SQL; wait", code=TOO_MANY)
        limits = msgspec.structs.replace(self._limits, rows=params.limit)
        asked = Asked(
            str(self._journal.path), params.query, rights.allow, rights.deny, params.zone, params.progress, limits
        )
        self._children[uid] += 1
        try:
            async with contextlib.aclosing(lines_of(asked)) as lines:
                async for line in lines:
                    _check(request, caller, rights)
                    yield msgspec.Raw(line)
        finally:
            self._children[uid] -= 1
            self._children += Counter()  # without users that have none


async def lines_of(asked: Asked) -> AsyncGenerator[bytes, None]:
    """
    Run a query in a process, and yield the lines of its result. The process is killed when its time is over or the
    caller closes this. Raises CommandError.
    """
    deadline = asyncio.get_running_loop().time() + asked.limits.seconds
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "hub.control.sqlchild",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=_LINE_BYTES_MAX,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(msgspec.json.encode(asked))
        process.stdin.close()
        while True:
            async with asyncio.timeout_at(deadline):
                line = await process.stdout.readline()
                if not line.endswith(b"\n"):
                    raise CommandError(_end_of(await process.wait(), asked.limits))
            if line.startswith(b'{"error"'):
                failed = _decode(line)
                raise CommandError(failed.error, data=None if failed.at is None else {"at": failed.at})
            yield line[:-1]
            if line.startswith(b'{"is_final"'):
                return
    except TimeoutError:
        raise CommandError(f"the query took more than {asked.limits.seconds:g} s: {_ADVICE}") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _end_of(status: int, limits: Limits) -> str:
    """Return why a process has ended with *status* in the middle of its result."""
    if status == -signal.SIGXCPU:
        return f"the query took more than {limits.cpu_s} s of the processor: {_ADVICE}"
    return "the query took more memory than it may"


def _check(request: Request, caller: Intake, rights: TagRights) -> None:
    """Raise CommandError if *caller* may no longer read what the query has read."""
    now = caller.gate.tags
    if not caller.gate.may_call(request.method) or (now.allow, now.deny) != (rights.allow, rights.deny):
        raise CommandError("the access rules have changed; ask again", code=NOT_ALLOWED)
