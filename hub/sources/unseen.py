"""
Files that came and went between two looks, as the kernel's events tell it: nobody can read them any more.

    CREATE app.log, MODIFY app.log, MOVED_FROM app.log        and no MOVED_TO with the same cookie: it left the folders

A file that was not written to is none: nothing was in it. One that was made before the events of the same read is none
either: a look may have found it.

Always true: of both halves of a move, the second one may come with the events of the next read; it is waited for.
Not here: reading the events (hub.sources.watching), which of these files are a log's (hub.sources.following).
Source: inotify(7).
"""

from __future__ import annotations

MODIFY, MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x2, 0x40, 0x80, 0x100, 0x200
Name = tuple[int, str]
"""The watch of a folder, and a name in it."""


class _Made:
    """A file that was made: the names that it has had, and whether it was written to."""

    __slots__ = ("is_written", "names")

    def __init__(self, name: Name) -> None:
        self.names = [name]
        self.is_written = False


class Unseen:
    """Follows files from one event to the next."""

    def __init__(self) -> None:
        self._made: dict[Name, _Made] = {}
        self._moving: dict[int, _Made] = {}  # by cookie
        self._moved_before: dict[int, _Made] = {}  # by the events of the last read
        self._gone: list[list[Name]] = []
        self._is_certain = True

    def begin(self, *, is_certain: bool) -> None:
        """The events of another read follow. Unless *is_certain*, a look may have found what they are about."""
        self._is_certain = is_certain
        self._made = {}
        self._moved_before, self._moving = self._moving, {}
        self._gone = []

    def note(self, name: Name, mask: int, cookie: int) -> None:
        """Take note of one event, which is not about a folder."""
        if mask & MODIFY:
            if (made := self._made.get(name)) is not None:
                made.is_written = True
        elif mask & CREATE:
            if self._is_certain:
                self._made[name] = _Made(name)
        elif mask & MOVED_FROM:
            if (made := self._made.pop(name, None)) is not None:
                self._moving[cookie] = made
        elif mask & MOVED_TO:
            self._is_gone(self._made.pop(name, None))
            self._moved_before.pop(cookie, None)
            if (made := self._moving.pop(cookie, None)) is not None:
                made.names.append(name)
                self._made[name] = made
        elif mask & DELETE:
            self._is_gone(self._made.pop(name, None))

    def forget(self) -> None:
        """Nobody knows what has become of the files."""
        self._made, self._moving, self._moved_before, self._gone = {}, {}, {}, []

    def end(self) -> list[list[Name]]:
        """Return the names of each file that is gone unseen."""
        for made in self._moved_before.values():
            self._is_gone(made)
        return self._gone

    def _is_gone(self, made: _Made | None) -> None:
        if made is not None and made.is_written:
            self._gone.append(made.names)
