"""
A disk in memory that forgets what was not synced, fills up and fails.

A process sees its last writes. A power cut leaves any mix of everything that was not synced: each page old, new or
torn; each size and each name old or new. A failed sync drops its pages: the process still sees them, and a later sync
succeeds without writing them (fsyncgate). A killed process loses only its fds.

`after_kill` and `after_power_cut` return the disk that the next process finds, and do not change this one.

Every change is a *step*. `watch` is called before each step with its name, and `fail` makes a step fail: create, page,
sync, sync_all, sync_folder, truncate, truncate_sync, rename, remove.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
from collections.abc import Callable, Iterator, Sequence

from hub.journal.files import BytesLike

PAGE_BYTES = 512
Choose = Callable[[int], int]
"""Chooses one of a number of possibilities."""


class _File:
    """The visible state of a file, and the states that the disk may hold instead."""

    _numbers = itertools.count()

    def __init__(self, data: bytearray, sizes: list[int]) -> None:
        self.number = next(self._numbers)
        self.data = data  # never shortened: an old size may return
        self.sizes = sizes  # sizes that the disk may hold, the visible one last
        self.pages: dict[int, list[bytes]] = {}  # pages that may not be on disk: every content each may have there
        self.dirty: set[int] = set()  # those whose pages the next sync writes

    def write_page(self, page: int, offset: int, data: bytes) -> None:
        start = page * PAGE_BYTES
        versions = self.pages.setdefault(page, [bytes(self.data[start : start + PAGE_BYTES])])
        self.data[offset : offset + len(data)] = data
        versions.append(bytes(self.data[start : start + PAGE_BYTES]))
        self.dirty.add(page)

    def sync(self, *, size: bool, pages: range | None = None) -> None:
        """Sync the dirty pages, or those of them that are in *pages*."""
        for page in self.clean(pages):
            del self.pages[page]
        if size:
            self.sizes = self.sizes[-1:]

    def clean(self, pages: range | None = None) -> set[int]:
        """Return the pages that a sync writes. No later sync writes them, also if this one fails."""
        written = {page for page in self.dirty if pages is None or page in pages}
        self.dirty -= written
        return written

    def copy(self) -> _File:
        copy = _File(self.data[:], self.sizes[:])
        copy.pages = {page: versions[:] for page, versions in self.pages.items()}
        copy.dirty = set(self.dirty)
        return copy

    def after_power_cut(self, choose: Choose, tear_at: int) -> _File:
        size = self.sizes[choose(len(self.sizes))]
        data = self.data[:]
        for page, versions in sorted(self.pages.items()):
            front, back = versions[choose(len(versions))], versions[choose(len(versions))]
            start = page * PAGE_BYTES
            data[start : start + PAGE_BYTES] = front[:tear_at] + back[tear_at:]
        return _File(data[:size], [size])


class ForgettingFiles:
    """A folder on such a disk. *capacity* is its size in bytes."""

    def __init__(self, capacity: int = 1 << 40) -> None:
        self.capacity = capacity
        self.watch: Callable[[str], None] = lambda step: None
        self._names: dict[str, list[_File | None]] = {}  # files that each name may have on disk, the visible one last
        self._handles: dict[int, _File] = {}
        self._numbers = itertools.count(3)  # fds are never reused, so that a stale one is noticed
        self._faults: dict[str, list[int]] = {}

    def is_linked(self, fd: int) -> bool:
        return any(files[-1] is self._handles[fd] for files in self._names.values())

    # What happens to it.

    def fail(self, step: str, code: int = errno.EIO, *, after: int = 0, times: int = 1) -> None:
        """Let *step* fail *times* times, after *after* successes."""
        self._faults[step] = [0] * after + [code] * times

    def after_kill(self) -> ForgettingFiles:
        """Return the disk as the next process finds it after this one was killed."""
        copies: dict[int, _File] = {}

        def copy(file: _File | None) -> _File | None:
            return file and copies.setdefault(id(file), file.copy())

        disk = ForgettingFiles(self.capacity)
        disk._names = {name: [copy(file) for file in files] for name, files in self._names.items()}
        return disk

    def after_power_cut(self, choose: Choose, *, tear_at: int = PAGE_BYTES // 2) -> ForgettingFiles:
        """Return one possible disk after a power cut."""
        disk = ForgettingFiles(self.capacity)
        for name, files in sorted(self._names.items()):
            if (file := files[choose(len(files))]) is not None:
                disk._names[name] = [file.after_power_cut(choose, tear_at)]
        return disk

    def power_cuts(self, rng: random.Random, most: int) -> Iterator[ForgettingFiles]:
        """Yield every disk that a power cut may leave, or *most* random ones if there are more."""
        possible = 1

        def newest(count: int) -> int:
            nonlocal possible
            possible *= count
            return count - 1

        self.after_power_cut(newest)
        if possible <= most:
            yield from map(self.after_power_cut, every_choice())
        else:
            for _ in range(most):
                yield self.after_power_cut(rng.randrange, tear_at=rng.randrange(PAGE_BYTES))

    def contents(self) -> tuple[dict[str, int], dict[int, bytes]]:
        """Return the visible state: the file number of each name, and the bytes of each file, open ones included."""
        named = {name: file for name, files in self._names.items() if (file := files[-1]) is not None}
        files = (*named.values(), *self._handles.values())
        seen = {file.number: bytes(file.data[: file.sizes[-1]]) for file in files}
        return {name: file.number for name, file in named.items()}, seen

    @property
    def is_lying(self) -> bool:
        """Return whether a visible page was dropped by a failed sync, so that no later sync will write it."""
        return any(file.pages.keys() - file.dirty for files in self._names.values() for file in files if file)

    @property
    def open_files(self) -> int:
        return len(self._handles)

    def overwrite(self, name: str, data: bytes) -> None:
        """Replace the contents of a file by *data*, or create it: damage, not a write."""
        self._names[name] = [_File(bytearray(data), [len(data)])]

    def _step(self, step: str) -> None:
        self.watch(step)
        if (faults := self._faults.get(step)) and (code := faults.pop(0)):
            raise OSError(code, os.strerror(code))

    def _sync(self, file: _File, step: str, *, size: bool, pages: range | None = None) -> None:
        try:
            self._step(step)
        except OSError:
            file.clean(pages)
            raise
        file.sync(size=size, pages=pages)

    def _seen(self, name: str) -> _File:
        if (file := self._names.get(name, [None])[-1]) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return file

    # Operations: hub.journal.files.Files.

    def list(self) -> list[str]:
        return [name for name, files in self._names.items() if files[-1] is not None]

    def open(self, name: str) -> int:
        return self._open(self._seen(name))

    def create(self, name: str, size: int) -> int:
        if name in self.list():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        self._step("create")
        if sum(self._seen(other).sizes[-1] for other in self.list()) + size > self.capacity:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file = _File(bytearray(size), [0, size])
        self._names.setdefault(name, [None]).append(file)
        return self._open(file)

    def read(self, fd: int, offset: int, size: int) -> bytes:
        file = self._handles[fd]
        return bytes(file.data[offset : min(offset + size, file.sizes[-1])])

    def write(self, fd: int, offset: int, parts: Sequence[BytesLike], *, is_synced: bool = False) -> None:
        file, data = self._handles[fd], b"".join(parts)
        start, size = offset, len(data)
        assert offset + len(data) <= file.sizes[-1], "written after the reserved space"
        while data:
            page = offset // PAGE_BYTES
            now = data[: (page + 1) * PAGE_BYTES - offset]
            self._step("page")
            file.write_page(page, offset, now)
            offset, data = offset + len(now), data[len(now) :]
        if is_synced:
            self.sync_range(fd, start, size)

    def sync_range(self, fd: int, offset: int, size: int) -> None:
        """Sync only these bytes: the second half of a synced write."""
        pages = range(offset // PAGE_BYTES, -(-(offset + size) // PAGE_BYTES))
        self._sync(self._handles[fd], "sync", size=False, pages=pages)

    def sync(self, fd: int) -> None:
        self._sync(self._handles[fd], "sync", size=False)

    def sync_all(self, fd: int) -> None:
        self._sync(self._handles[fd], "sync_all", size=True)

    def sync_folder(self) -> None:
        self._step("sync_folder")
        self._names = {name: files[-1:] for name, files in self._names.items() if files[-1] is not None}

    def truncate(self, name: str, size: int) -> None:
        file = self._seen(name)
        self._step("truncate")
        file.sizes.append(min(size, file.sizes[-1]))
        self._sync(file, "truncate_sync", size=True)

    def size(self, fd: int) -> int:
        return self._handles[fd].sizes[-1]

    def close(self, fd: int) -> None:
        del self._handles[fd]

    def remove(self, name: str) -> None:
        self._seen(name)
        self._step("remove")
        self._names[name].append(None)

    def rename(self, name: str, new_name: str) -> None:
        file = self._seen(name)
        self._step("rename")
        self._names[name].append(None)
        self._names.setdefault(new_name, [None]).append(file)

    def is_named(self, fd: int, name: str) -> bool:
        return self._names.get(name, [None])[-1] in (None, self._handles[fd])

    def _open(self, file: _File) -> int:
        fd = next(self._numbers)
        self._handles[fd] = file
        return fd


def every_choice() -> Iterator[Choose]:
    """Yield choosers, one for each run of the same code, that together make every combination of choices."""
    made: list[tuple[int, int]] = []  # (the choice, the number of possibilities)
    while True:
        position = 0

        def choose(count: int) -> int:
            nonlocal position
            if position == len(made):
                made.append((0, count))
            position += 1
            return made[position - 1][0]

        yield choose
        while made and made[-1][0] == made[-1][1] - 1:
            made.pop()
        if not made:
            return
        made[-1] = made[-1][0] + 1, made[-1][1]
