"""
One query in SQL, in a process of its own, for callers that are not trusted with this one's files, memory and time.

The process gets the query as JSON on standard input and writes the result as JSON. It ends after one query.

Always true:
- only a query is run: nothing that changes, and nothing that reads or writes a file except the journal;
- its memory, its threads, its time and its result are bounded by `Limits`.

Not here: the database (hub.query.sql), who may ask (the caller).
"""

from __future__ import annotations

import asyncio
import itertools
import resource
import sys
from collections.abc import Sequence

import msgspec

_ADDRESSES_BYTES = 1 << 30
"""Address space beyond the memory of DuckDB: the interpreter, the libraries, what is read of the journal."""


class Limits(msgspec.Struct, frozen=True):
    """What a query may take."""

    memory_bytes: int = 256 << 20
    """Of DuckDB, which writes no temporary files: sorting and grouping of more fails."""
    seconds: float = 30.0
    rows: int = 10_000
    result_bytes: int = 4 << 20
    """Of the texts in the rows: what comes after is left out."""


class Request(msgspec.Struct, frozen=True):
    """A query over the journal in *folder*."""

    folder: str
    sql: str
    limits: Limits = Limits()


class Answer(msgspec.Struct, frozen=True):
    """The rows of a query as texts, or an *error*. *is_cut*: there were more. *misfits*: values that became NULL."""

    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str | None]] = ()
    is_cut: bool = False
    misfits: int = 0
    error: str = ""


async def answer(request: Request) -> Answer:
    """Run a query in another process. It is killed when its time is over, or when the caller is cancelled."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub.query.sqlchild", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(request.limits.seconds):
            output, _ = await process.communicate(msgspec.json.encode(request))
    except TimeoutError:
        return Answer(error=f"the query took more than {request.limits.seconds:g} s")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        return msgspec.json.decode(output, type=Answer)
    except msgspec.DecodeError:
        return Answer(error="the query took more memory or time than it may")


def run(request: Request) -> Answer:
    """Run a query in this process."""
    from hub.query.sql import Database, SqlError

    limits = request.limits
    settings = {"memory_limit": f"{limits.memory_bytes}B", "threads": 1, "max_temp_directory_size": "0B"}
    try:
        with Database(request.folder, settings=settings, is_locked=True) as database:
            statements = database.statements(request.sql)
            if len(statements) != 1 or not database.is_query(statements[0]):
                return Answer(error="not one query: SELECT, or what else only reads")
            result = database.execute(statements[0], "SELECT CAST(COLUMNS(*) AS VARCHAR) FROM {}")
            names = [each[0] for each in result.description or ()]
            rows: list[Sequence[str | None]] = []
            left = limits.result_bytes
            found = database.rows(result)
            for row in itertools.islice(found, limits.rows):
                left -= sum(len(text) for text in row if text is not None)
                if left < 0:
                    return Answer(names, rows, is_cut=True, misfits=database.progress.misfits)
                rows.append(row)
            is_cut = next(found, None) is not None
            return Answer(names, rows, is_cut, database.progress.misfits)
    except (SqlError, OSError) as error:
        return Answer(error=str(error).partition("\n\nLINE ")[0])


def main() -> None:
    """Answer the request on standard input."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    _bound(resource.RLIMIT_AS, request.limits.memory_bytes + _ADDRESSES_BYTES)
    _bound(resource.RLIMIT_CPU, int(request.limits.seconds) + 1)  # also if the caller has been killed
    _bound(resource.RLIMIT_CORE, 0)
    sys.stdout.buffer.write(msgspec.json.encode(run(request)))


def _bound(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


if __name__ == "__main__":
    main()
