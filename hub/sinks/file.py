"""
The sink `file`: writes messages to files, as lines of JSON or text, by tag and date.

The path of a message is that of its tag and its time of receipt (hub.sinks.pathtemplate). Before a file is written to,
the cursor knows its identity and its size; after a crash, what the file has beyond that is compared with what comes
again (hub.sinks.logfile). So a kill at any moment repeats no line and leaves none half.

Always true:
- a message is on disk before the cursor covers it;
- a file is renamed only when everything in it is covered by the cursor;
- at most `OPEN_MAX` files are open between two portions, and `FILES_MAX` tags have files of their own: others share
  one, whose name has ``%others`` in the place of the tag;
- a file that somebody has renamed (logrotate) is left alone, and another one begins at its path.

Not here: compression and retention (hub.sinks.finished), the cursor (hub.sinks.runner).
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import time
from collections.abc import Callable, Sequence

import msgspec

from hub.entries import NS
from hub.log import get_logger
from hub.query.found import Found, Group, received_of
from hub.query.rendering import json_of, render_dated
from hub.sinks.finished import Finished
from hub.sinks.kinds import File
from hub.sinks.logfile import Known, LogFile, check_regular, sync_folder
from hub.sinks.pathtemplate import OTHERS, PathTemplate
from hub.sinks.sink import Halted, Host, SinkFault
from hub.socketpath import group_id
from hub.trust import check

OPEN_MAX = 64
FILES_MAX = 1000
"""Files in one folder that tags have by themselves: any user may send any tag."""
TAGS_MAX, TAGS_SHARE = 1024, 16
"""Groups of a portion, each of which may need a file of its own, and the share of all descriptors that they take."""
PATHS_MAX = 10_000
TIDY_S = 60
_OURS = 0o600
log = get_logger("mpsr.sinks")


def _text_of(group: Group) -> bytes:
    return "".join(f"{render_dated(message)}\n" for message in group).encode("utf-8", "replace")


_LINES: dict[str, Callable[[Group], bytes]] = {"json": json_of, "text": _text_of}


class FileSink:
    """The files of *table*."""

    def __init__(self, table: File, host: Host) -> None:
        self._table = table
        self._host = host
        self._template = PathTemplate(table.path)
        self._finished = Finished(table, self._template, self._check)
        self._render = _LINES[table.format]
        self._has_tags = "tag" in self._template.fields
        self.groups_max: int = tags_max() if self._has_tags else 2048
        self.safe: int = 0
        self._files: dict[str, LogFile] = {}  # the one used last is the last
        self._needed: set[str] = set()  # the paths of the portion at hand
        self._paths: dict[tuple[str, tuple[str, str]], str] = {}
        self._tags: dict[str, set[str]] = {}  # those that have files in a folder, or will have
        self._received: int | None = None
        self._tidied = 0.0
        self._gid = -1

    def open(self, after: int, detail: bytes) -> None:
        """Open the files that the cursor knows, as far as they have more than it knows. Raises OSError, MpsrError."""
        check_base(self._template)
        self._gid = group_id(self._table.group)
        for known in msgspec.msgpack.decode(detail, type=list[Known]) if detail else ():
            file = LogFile.find(known)
            if file is None:
                continue
            if file.has_more or file.look()[0]:
                self._files[known.path] = file
            else:
                file.close()
        self._tidy()

    def deliver_groups(self, groups: Sequence[Group]) -> None:
        """Write the messages of *groups*. Raises OSError."""
        data = {path: b"".join(lines) for path, lines in self._lines(groups).items()}
        self._needed = set(data)
        self._finish([file for path, file in [*self._files.items()] if self._is_over(file, len(data.get(path, b"")))])
        if fresh := [path for path in data if path not in self._files]:
            for path in fresh:
                self._files[path] = LogFile.open(path, mode=self._table.mode, gid=self._gid)
            self._host.checkpoint()
        now = time.time_ns()
        for path, text in data.items():
            file = self._files[path] = self._files.pop(path)
            file.write(text, now)
        self._received = received_of(groups[-1])
        self._needed = set()
        if time.monotonic() >= self._tidied + TIDY_S:
            self._tidy()

    def settle(self) -> bytes:
        """Sync what was written. Return what is known of the open files. Raises OSError."""
        for file in self._files.values():
            file.settle()
        for path in [path for path, file in self._files.items() if not file.has_more and path not in self._needed]:
            if len(self._files) <= OPEN_MAX:
                break
            self._files.pop(path).close()
        return msgspec.msgpack.encode([file.known for file in self._files.values()])

    def idle(self, now: int) -> None:
        """Finish what is due, and remove what is not due any longer. Raises OSError."""
        for file in self._files.values():
            if file.has_more:
                file.cut()
        self._finish([file for file in [*self._files.values()] if self._is_over(file, 0)])
        if time.monotonic() >= self._tidied + TIDY_S:
            self._tidy()

    def close(self) -> None:
        """Close all files."""
        while self._files:
            self._files.popitem()[1].close()

    def _lines(self, groups: Sequence[Group]) -> dict[str, list[bytes]]:
        """Return the messages of *groups* as lines, by path."""
        lines: dict[str, list[bytes]] = {}
        for group in groups:
            if isinstance(group, Found):
                tag, received = group.batch.tag.decode("utf-8", "replace"), group.batch.received
                lines.setdefault(self._path(tag, received), []).append(self._render(group))
            else:
                for message in group:
                    path = self._path(message.tag, message.received)
                    lines.setdefault(path, []).append(self._render([message]))
            self._host.rest()
        return lines

    def _path(self, tag: str, received: int) -> str:
        moment = self._template.moment_at(received)
        key = (tag if self._has_tags else "", moment)
        path = self._paths.get(key)
        if path is None:
            if len(self._paths) >= PATHS_MAX:
                self._paths.clear()
            path = self._paths[key] = self._path_of(tag, received)
        return path

    def _path_of(self, tag: str, received: int) -> str:
        path = self._template.path(tag.encode("utf-8", "replace"), received)
        folder = self._template.folder_of_tags(path)
        if folder is None or path in self._files or os.path.lexists(path):
            return path
        tags = self._tags.get(folder)
        if tags is None:
            tags = self._tags[folder] = set()
            with contextlib.suppress(OSError):
                tags.update(found for name in os.listdir(folder) if (found := self._template.tag_in("", name)))
        own = self._template.tag_in(folder, path) or path
        if own not in tags and len(tags) >= FILES_MAX:
            return self._template.path(OTHERS, received)
        tags.add(own)
        return path

    def _is_over(self, file: LogFile, more: int) -> bool:
        """Return whether *file* is finished before *more* bytes are written to it."""
        if file.has_more:
            return False
        is_there, is_changed = file.look()
        if not is_there:
            return True
        if is_changed:
            log.warning("file.changed", path=file.path, bytes=file.size, reason="another program has changed its size")
            self._host.checkpoint()
        table = self._table
        if self._is_past(file.path):
            return True
        if not file.size:
            return False
        if table.rotate_size is not None and file.size + more > table.rotate_size:
            return True
        every = 0 if table.rotate_every is None else int(table.rotate_every * NS)
        return bool(every) and time.time_ns() // every > file.written // every

    def _finish(self, files: Sequence[LogFile]) -> None:
        """Settle *files*, close them, and rename those that have their path and no date that is over."""
        if not files:
            return
        self._host.checkpoint()
        now = time.time_ns()
        for file in files:
            is_there, _ = file.look()
            if is_there and file.size and not self._is_past(file.path):
                rotated = self._finished.stamped(file.path, now)
                os.rename(file.path, rotated)
                sync_folder(os.path.dirname(rotated))
                log.info("file.rotated", path=rotated, bytes=file.size)
            self._files.pop(file.path, None)
            file.close()
        self._tidy()

    def _is_past(self, path: str) -> bool:
        moment = self._template.moment_of(path)
        return moment is not None and self._received is not None and moment < self._template.moment_at(self._received)

    def _tidy(self) -> None:
        self._paths.clear()
        self._tags.clear()
        self._finished.tidy(live=self._files, received=self._received, now=time.time_ns())
        self._tidied = time.monotonic()

    def _check(self) -> None:
        if self._host.is_halted:
            raise Halted


def tags_max() -> int:
    """Return for how many groups of different tags files may be open: most descriptors are left to connections."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return TAGS_MAX if limit == resource.RLIM_INFINITY else max(min(TAGS_MAX, limit // TAGS_SHARE), 1)


def check_table(table: File) -> None:
    """Check that the sink for *table* could be opened, without changing anything. Raises MpsrError or OSError."""
    template = PathTemplate(table.path)
    check_base(template)
    if not os.access(template.base, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), template.base)
    if not template.fields:
        with contextlib.suppress(FileNotFoundError):
            check_regular(template.text, os.lstat(template.text))
    if table.mode & _OURS != _OURS:
        raise SinkFault(f"mode {table.mode:04o}: the hub itself cannot read and write such files (at least 0600)")
    gid = group_id(table.group)
    if gid not in (-1, os.getegid(), *os.getgroups()) and os.geteuid() != 0:
        raise SinkFault(f"{os.strerror(errno.EPERM)}: group {gid} (choose a group of yours)")


def check_base(template: PathTemplate) -> None:
    """Check that the folder of *template* exists and that no other user can replace what is in it. Raises OSError."""
    with os.scandir(template.base):
        pass
    check(os.path.join(template.base, "log"))
