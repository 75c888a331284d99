"""
The generations of a log file: what rotation has made of it while nobody looked.

A file that was renamed is found by its identity. This is about files that were never read: copies that ``copytruncate``
has made, and files that were created, filled and renamed while no hub ran.

    app.log, read up to 500 of 900     hub ends; app.log is copied and truncated, and again
    app.log.2  begins like what was read: it is continued at 500
    app.log.1  is younger, and nobody knows it: from its start
    app.log    from its start

Always true: nothing older than what was read is taken; nothing is taken of a copy that was read in the original.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from hub.sources import filecheck
from hub.sources.filecheck import Mark, has_mark, is_part, is_prefix, mark_at
from hub.sources.fileidentity import Identity, identify, identify_open

CANDIDATES_MAX = 1000
LISTED_MAX = 100_000
"""Names of a folder that are searched for a copy with any name."""
COMPARED_MAX = 256
"""Files that each generation is compared with."""
SLACK_NS = 20_000_000
"""The clock that stamps files has steps of up to 10 ms."""
COMPRESSED = (".gz", ".zst", ".bz2", ".xz", ".lz4", ".lzma", ".zip", ".Z")
_SUFFIX = re.compile(r"(?:[.\-_](?:\d[\d.:TZ_\-]*|old|bak|prev|previous|save|saved|orig|copy)|~)\Z")
_NUMBER = re.compile(r"\d+", re.ASCII)
_MIDDLE = re.compile(r"[.\-_]\d[\d.:TZ_\-]*\Z")


class Candidate(NamedTuple):
    """A file that nobody has read: its name, its identity, its size, and whether it is the copy that was looked for."""

    entry: str
    identity: Identity
    described: os.stat_result
    is_copy: bool = False
    read_to: tuple[int, Mark] | None = None
    """How far it was read as another file, of which it is a copy."""
    is_closed: bool = False
    """Whether it could not be opened, so that nobody knows what it is a copy of."""
    folder: str = ""
    """Where it is, if that is another folder than the one that is searched first."""

    @property
    def born_ns(self) -> int:
        """When it was made, as far as is known."""
        return self.identity.born_ns or self.described.st_mtime_ns

    @property
    def is_read(self) -> bool:
        """Whether nothing is left to be read of it."""
        return self.read_to is not None and self.read_to[0] >= self.described.st_size


class Reached(NamedTuple):
    """How far a file was read, and when it had what was read of it for the last time."""

    offset: int
    mark: Mark
    seen_ns: int


class Other(NamedTuple):
    """
    A file that is read in full, open (-1: it cannot be opened), and how far it was read. *home_ns*: when it was made,
    if it is at its path, otherwise 0. *settled_ns*: what is younger is certainly no older generation of it (but a copy,
    perhaps half made, or put there by somebody), as it was read there and did not go away; 0: it is not certain.
    *size*: its size, if it cannot be opened.
    """

    fd: int
    home_ns: int = 0
    reached: Reached | None = None
    settled_ns: int = 0
    size: int = 0

    @property
    def is_truncated(self) -> bool:
        """Whether it does not have what was read of it any more."""
        if self.fd == -1 or self.reached is None or not self.reached.offset:
            return False
        return not has_mark(self.fd, self.reached.offset, self.reached.mark)


class Known(NamedTuple):
    """
    What was read of the file that generations are looked for of, and of other generations. *gone* are files that are
    gone: a copy of one goes on there. *others* are there: a copy of one is left to be found when that turns out to be
    truncated.
    """

    gone: Sequence[Reached] = ()
    others: Sequence[Other] = ()

    def judge(self, fd: int, candidate: Candidate) -> Candidate | None:
        """Return *candidate* with the place where it is to be continued, or None if it is no generation."""
        gone = [(each.offset, each.mark) for each in self.gone if _is_copy(fd, each, filecheck.BEGIN_BYTES)]
        if gone:
            return candidate._replace(read_to=max(gone))
        if any(_is_read(fd, candidate, each) for each in self.gone):
            return _as_read(fd, candidate)
        if any(_is_in(other, fd, candidate) for other in self.others):
            return None
        return candidate


NOTHING_KNOWN = Known()


class Found(NamedTuple):
    """
    Unread generations. *is_steady*: each name led to the file that it was listed with. *has_copies*: copies of what is
    in other files were left aside, as they are while it is there.
    """

    candidates: list[Candidate]
    is_steady: bool = True
    has_copies: bool = False


def numbers_of(name: str) -> tuple[int, ...]:
    """Return the numbers that a rotation has put into *name*: a count, or the parts of a date."""
    stem, _ = os.path.splitext(name)
    found = _SUFFIX.search(name) or _MIDDLE.search(stem)
    return tuple(map(int, _NUMBER.findall(found[0]))) if found is not None else ()


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


def listed(dir_fd: int) -> dict[str, int]:
    """Return the names in an open folder, with the inodes that they lead to."""
    with os.scandir(dir_fd) as entries:
        return {entry.name: entry.inode() for entry in entries}


def family(names: Mapping[str, int], base: str) -> dict[str, int]:
    """Return those of *names* that *base* and its generations have."""
    return {name: ino for name, ino in names.items() if name == base or is_rotated_name(name, base)}


def may_be_copies(names: Mapping[str, int], base: str) -> dict[str, int]:
    """Return those of *names* that copies of *base* may have: `CANDIDATES_MAX` likely ones, and as many others."""
    named = heapq.nsmallest(CANDIDATES_MAX, (name for name in names if is_rotated_name(name, base)))
    some = itertools.islice(names, LISTED_MAX)
    others = (name for name in some if name != base and not is_rotated_name(name, base))
    return {name: names[name] for name in (*named, *heapq.nsmallest(CANDIDATES_MAX, others))}


def find(
    dir_fd: int,
    names: Mapping[str, int],
    base: str,
    *,
    is_known: Callable[[Identity], bool],
    since_ns: int,
    read_to: Reached | None = None,
    known: Known = NOTHING_KNOWN,
) -> Found:
    """
    Return the unread generations of *base* among *names* in an open folder, which were listed with these inodes, the
    oldest first. With *read_to*, the place up to which a file was read that was truncated, the copy of that file is the
    first one. It may end before that place: what was written after it was made may have been read before the
    truncation. Other copies of it follow, with `is_read`: they are found only as long as anybody knows what was in it.

    *since_ns*: nothing older is one. Raises OSError.
    """
    copies: list[tuple[int, Candidate]] = []
    parts: list[Candidate] = []
    rest: list[Candidate] = []
    moved: list[str] = []
    has_copies = False
    with contextlib.ExitStack() as open_files:
        found: list[Other] = []
        for fd, candidate in _candidates(dir_fd, names, base, is_known, read_to is not None, moved):
            if fd == -1:
                if _is_young(candidate, since_ns):
                    rest.append(candidate)
                continue
            open_files.callback(os.close, fd)
            if read_to is not None and read_to.mark.tail_bytes and has_mark(fd, read_to.offset, read_to.mark):
                copies.append((fd, candidate._replace(is_copy=True, read_to=read_to[:2])))  # it may have begun long ago
                continue
            if read_to is not None and _is_read(fd, candidate, read_to):
                parts.append(_as_read(fd, candidate))
                continue
            if not is_rotated_name(candidate.entry, base):
                continue
            judged = known._replace(others=(*known.others, *found[-COMPARED_MAX:])).judge(fd, candidate)
            has_copies = has_copies or judged is None
            if judged is not None and (judged.read_to is not None or _is_young(judged, since_ns)):
                rest.append(judged)
                found.append(Other(fd))
        copies.sort(key=lambda each: each[1].described.st_size)
        parts += [_as_read(fd, candidate) for fd, candidate in copies[:-1]]
    rest.sort(key=lambda each: each.born_ns)
    parts.sort(key=lambda each: each.described.st_size)
    copy = copies[-1][1] if copies else parts.pop()._replace(is_copy=True) if parts else None
    copies_first = rest if copy is None else [copy, *parts, *rest]
    return Found(copies_first, not moved, has_copies)


def _as_read(fd: int, candidate: Candidate) -> Candidate:
    size = candidate.described.st_size
    return candidate._replace(is_copy=False, read_to=(size, mark_at(fd, size)[0]))


def _is_young(candidate: Candidate, since_ns: int) -> bool:
    """Return whether *candidate* was made and written since: what is unpacked or put back was written before."""
    mtime_ns = candidate.described.st_mtime_ns
    return min(candidate.identity.born_ns or mtime_ns, mtime_ns) >= since_ns - SLACK_NS


def _is_in(other: Other, fd: int, candidate: Candidate) -> bool:
    """Return whether *candidate*, which is open, is no generation before *other*, as all of it is, or was, there."""
    size, born_ns = candidate.described.st_size, candidate.identity.born_ns
    if 0 < other.settled_ns <= born_ns:
        return True
    # What is younger than the file at the path is no older generation of it: however short, it is a copy.
    is_younger = 0 < other.home_ns < born_ns
    reached, bytes_min = other.reached, 1 if is_younger else filecheck.BEGIN_BYTES
    if reached is not None and (_is_copy(fd, reached, bytes_min) or _is_read(fd, candidate, reached)):
        return True
    if other.fd == -1:  # nobody can see whether it is
        return is_younger and reached is not None and not reached.offset and size <= other.size
    there = os.fstat(other.fd).st_size
    shorter = min(size, there)
    return (size <= there if is_younger else shorter >= bytes_min) and is_prefix(fd, other.fd, shorter)


def _is_copy(fd: int, read: Reached, bytes_min: int) -> bool:
    return read.offset >= bytes_min and has_mark(fd, read.offset, read.mark)


def _is_read(fd: int, candidate: Candidate, read: Reached) -> bool:
    """Return whether *candidate* is a copy that was made before the original was read to where it is now."""
    born_ns = candidate.identity.born_ns or candidate.described.st_mtime_ns
    return born_ns <= read.seen_ns + SLACK_NS and is_part(fd, candidate.described.st_size, read.offset, read.mark)


def _candidates(
    dir_fd: int,
    names: Mapping[str, int],
    base: str,
    is_known: Callable[[Identity], bool],
    with_any_name: bool,
    moved: list[str],
) -> Iterator[tuple[int, Candidate]]:
    """
    Yield files that may be generations, open; with -1 those that may not be opened. Note in *moved* the names that lead
    to other files than when they were listed.
    """
    ordered = sorted((not is_rotated_name(name, base), name) for name in names)
    for is_unnamed, name in ordered[:CANDIDATES_MAX]:
        if is_unnamed and (not with_any_name or name.endswith(COMPRESSED)):
            continue
        fd, candidate = -1, None
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
            described = os.fstat(fd)
            candidate = Candidate(name, identify_open(fd, described), described)
        except FileNotFoundError:
            moved.append(name)
        except PermissionError:
            try:
                described = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
                candidate = Candidate(name, identify(name, dir_fd, described), described, is_closed=True)
            except FileNotFoundError:
                moved.append(name)
        except OSError:
            pass  # a link, or a device
        if candidate is not None and candidate.identity.ino != names[name]:
            moved.append(name)
        is_one = candidate is not None and stat.S_ISREG(candidate.described.st_mode)
        if candidate is not None and is_one and not is_known(candidate.identity) and not (fd == -1 and is_unnamed):
            yield fd, candidate
        elif fd != -1:
            os.close(fd)
