"""
The generations of a log file: what rotation has made of it while nobody looked.

A file that was renamed is found by its identity. This is about files that were never read: copies that ``copytruncate``
has made, and files that were created, filled and renamed while no hub ran.

    app.log, read up to 500 of 900     hub ends; app.log is copied and truncated, and again
    app.log.2  begins like what was read: it is continued at 500
    app.log.1  is younger, and nobody knows it: from its start
    app.log    from its start

Always true: nothing older than what was read is taken; a copy of a file that is read in full is not taken.
Not here: files with a position (hub.sources.following).
Source: logrotate(8): create, copytruncate, dateext, extension.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from hub.sources.filecheck import Mark, has_mark, is_prefix, mark_at
from hub.sources.fileidentity import Identity, identify_open

CANDIDATES_MAX = 1000
LISTED_MAX = 100_000
"""Names of a folder that are searched for a copy."""
COMPARED_MAX = 256
"""Files that each generation is compared with."""
COPY_BYTES_MIN = 64
"""Shorter files may begin alike by chance."""
SLACK_NS = 20_000_000
"""The clock that stamps files has steps of up to 10 ms."""
COMPRESSED = (".gz", ".zst", ".bz2", ".xz", ".lz4", ".lzma", ".zip", ".Z")
_SUFFIX = re.compile(r"(?:[.\-_](?:\d[\d.:TZ_\-]*|old|bak|prev|previous|save|saved|orig|copy)|~)\Z")
_MIDDLE = re.compile(r"[.\-_]\d[\d.:TZ_\-]*\Z")


class Candidate(NamedTuple):
    """A file that nobody has read: its name, its identity, its size, and whether it is the copy that was looked for."""

    entry: str
    identity: Identity
    described: os.stat_result
    is_copy: bool = False
    read_to: tuple[int, Mark] | None = None
    """How far it was read as another file, which is gone, and of which it is a copy."""

    @property
    def age_key(self) -> tuple[int, int]:
        """The older one has the smaller key."""
        return self.identity.born_ns or self.described.st_mtime_ns, self.described.st_mtime_ns


class AtHome(NamedTuple):
    """The file that has the name now: its descriptor, when it was made, and whether some of it was read."""

    fd: int
    born_ns: int
    is_read: bool


def is_rotated_name(name: str, base: str) -> bool:
    """Return whether *name* looks like what rotation makes of *base*: base.1, base-20261127, stem-20261127.ext."""
    if name == base or name.endswith(COMPRESSED):
        return False
    if name.startswith(base):
        return _SUFFIX.fullmatch(name[len(base) :]) is not None
    stem, ext = os.path.splitext(base)
    return bool(ext) and name.startswith(stem) and name.endswith(ext) and _is_dated(name[len(stem) : -len(ext)])


def _is_dated(middle: str) -> bool:
    return _MIDDLE.fullmatch(middle) is not None


def bases_of(name: str) -> list[str]:
    """Return the names that *name* may have had before a rotation."""
    if name.endswith(COMPRESSED):
        return []
    bases = [name[: found.start()]] if (found := _SUFFIX.search(name)) is not None else []
    stem, ext = os.path.splitext(name)
    if ext and (found := _MIDDLE.search(stem)) is not None:
        bases.append(stem[: found.start()] + ext)
    return [base for base in bases if base]


def names_in(dir_fd: int, base: str) -> list[str]:
    """Return the names of files in an open folder that may be copies of *base*, the likely ones first."""
    named: list[str] = []
    others: list[str] = []
    with os.scandir(dir_fd) as entries:
        for entry in itertools.islice(entries, LISTED_MAX):
            if entry.name != base and entry.is_file(follow_symlinks=False):
                (named if is_rotated_name(entry.name, base) else others).append(entry.name)
    return [*heapq.nsmallest(CANDIDATES_MAX, named), *heapq.nsmallest(CANDIDATES_MAX, others)]


def find(  # noqa: PLR0913  all but three by name
    dir_fd: int,
    names: Iterable[str],
    base: str,
    *,
    is_known: Callable[[Identity], bool],
    since_ns: int,
    read_to: tuple[int, Mark] | None = None,
    others: tuple[int, ...] = (),
    gone: Sequence[tuple[int, Mark]] = (),
    here: Sequence[tuple[int, Mark]] = (),
    at_home: AtHome | None = None,
) -> list[Candidate]:
    """
    Return the unread generations of *base* among *names* in an open folder, the oldest first; with *read_to*, the place
    up to which a file was read that was truncated, the copy of that file is the first one. It may end before that
    place: what was written after it was made may have been read before the truncation.

    *since_ns*: nothing older is one. *others* are descriptors of files that are read in full. *gone* says how far files
    were read that are gone: a copy of one goes on there. *here* says it of the others: a copy of one of them is left to
    be found when that turns out to be truncated. What is younger than the file *at_home* is no older generation of it:
    it is a copy, perhaps half made, or was put there by somebody. Raises OSError.
    """
    found: list[Candidate] = []
    with contextlib.ExitStack() as open_files:
        fds: list[int] = []
        for fd, candidate in _candidates(dir_fd, names, base, is_known, since_ns, read_to):
            open_files.callback(os.close, fd)
            if at_home is not None and not candidate.is_copy and _is_made_after(fd, candidate, at_home):
                continue
            if candidate.is_copy or not (
                _is_copy_of_any(fd, candidate, [*others, *fds[-COMPARED_MAX:]]) or _read_to(fd, here) is not None
            ):
                place = _read_to(fd, gone)
                if place is None and read_to is not None and not candidate.is_copy:
                    place = _end_if_read(fd, candidate, *read_to)
                found.append(candidate._replace(read_to=place))
                fds.append(fd)
    copies = [candidate for candidate in found if candidate.is_copy]
    rest = sorted((each for each in found if not each.is_copy), key=lambda each: each.age_key)
    if copies:
        copy = max(copies, key=lambda each: each.described.st_size)
        return [copy._replace(read_to=read_to), *(each for each in rest if each.age_key > copy.age_key)]
    if read_to is not None:
        for number, each in enumerate(rest):
            if each.read_to is not None:
                return [each._replace(is_copy=True), *rest[number + 1 :]]
    return rest


def _read_to(fd: int, gone: Sequence[tuple[int, Mark]]) -> tuple[int, Mark] | None:
    return max((each for each in gone if each[0] >= COPY_BYTES_MIN and has_mark(fd, *each)), default=None)


def _end_if_read(fd: int, candidate: Candidate, offset: int, mark: Mark) -> tuple[int, Mark] | None:
    """Return the end of the copy of a file that was read further, up to *offset*, before it was truncated."""
    size = candidate.described.st_size
    if not COPY_BYTES_MIN <= mark.head_bytes <= size < offset:
        return None
    return (size, mark_at(fd, size)[0]) if mark_at(fd, mark.head_bytes)[0].head_crc == mark.head_crc else None


def _is_made_after(fd: int, candidate: Candidate, at_home: AtHome) -> bool:
    if not at_home.born_ns or candidate.identity.born_ns <= at_home.born_ns:
        return False
    if at_home.is_read or at_home.fd == -1:
        return at_home.is_read
    return candidate.described.st_size <= os.fstat(at_home.fd).st_size and is_prefix(fd, at_home.fd)


def _is_copy_of_any(fd: int, candidate: Candidate, others: list[int]) -> bool:
    size = candidate.described.st_size
    return any(
        min(size, os.fstat(other).st_size) >= COPY_BYTES_MIN and is_prefix(fd, other) for other in others if other != -1
    )


def _candidates(
    dir_fd: int,
    names: Iterable[str],
    base: str,
    is_known: Callable[[Identity], bool],
    since_ns: int,
    read_to: tuple[int, Mark] | None,
) -> Iterator[tuple[int, Candidate]]:
    """Yield files that may be generations, open."""
    ordered = sorted((not is_rotated_name(name, base), name) for name in names)
    for is_unnamed, name in ordered[:CANDIDATES_MAX]:
        if is_unnamed and (read_to is None or name.endswith(COMPRESSED)):
            continue
        with contextlib.suppress(OSError):
            fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
            candidate = None
            try:
                candidate = _examine(name, fd, is_known, since_ns, read_to, is_named=not is_unnamed)
            finally:
                if candidate is None:
                    os.close(fd)
            if candidate is not None:
                yield fd, candidate


def _examine(
    name: str,
    fd: int,
    is_known: Callable[[Identity], bool],
    since_ns: int,
    read_to: tuple[int, Mark] | None,
    *,
    is_named: bool,
) -> Candidate | None:
    described = os.fstat(fd)
    if not stat.S_ISREG(described.st_mode):
        return None
    identity = identify_open(fd, described)
    if is_known(identity):
        return None
    if read_to is not None and read_to[1].tail_bytes > 0 and has_mark(fd, *read_to):
        return Candidate(name, identity, described, is_copy=True)  # it may have been begun long ago
    is_young = (identity.born_ns or described.st_mtime_ns) >= since_ns - SLACK_NS
    return Candidate(name, identity, described) if is_young and is_named else None
