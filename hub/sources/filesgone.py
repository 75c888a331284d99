"""
Files that are no longer there: when they are given up, what is reported, and how long their rows are kept.

Always true:
- what is known to be unread of a file that is gone is a loss, once;
- a file is gone when two looks have not found it, the second one a while after the first;
- the row of a file that is given up is kept for as long as it may come back, of one user at most `GONE_MAX`;
- a file that is open is not given up: it is read to its end.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Set

import msgspec

from hub.log import get_logger
from hub.message import FORGET, Loss, Position
from hub.sources.fileowner import Owner, Unowned
from hub.sources.filerow import FileRow, State, row_path
from hub.sources.fileset import FileSet
from hub.sources.folderfinding import FEW_FOLDERS
from hub.sources.followed import Followed
from hub.sources.lookfolder import Folder, Folders
from hub.sources.openfiles import OpenFiles
from hub.sources.readorder import ReadOrder
from hub.sources.rowindex import Row
from hub.sources.sourceglobs import SourceGlobs

MISSING_S = 2 * 24 * 3600.0
"""How long the row of a file that is not found is kept: it may have been moved away, and come back."""
GONE_MAX = 5000
"""Rows of files of one user that are kept so."""
VANISHED_S = 2.0
"""How long a file without a name may have been overlooked during a rename."""
LOST_MAX = 16
log = get_logger("mpsr.files")


class FilesGone:
    """Gives up the files of a source that are gone."""

    def __init__(
        self,
        files: FileSet,
        order: ReadOrder,
        open_files: OpenFiles,
        globs: SourceGlobs,
        unowned: Unowned,
        folders: Folders,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._files = files
        self._order = order
        self._open = open_files
        self._globs = globs
        self._unowned = unowned
        self._folders = folders
        self._clock = clock
        self._unfound: list[Row] = []
        self._unfound_at = 0.0
        self._unfound_look = -1
        """As `Followed.missing_look`."""

    def look_for_missing(self) -> None:
        """Give up the files that have had no name for a while, and that another look after that has not found."""
        now = self._clock()
        for file in list(self._files.missing):
            if file.missing_at is None or now - file.missing_at < VANISHED_S:
                continue
            if file.missing_look == -1:  # the last look may have been long ago: of a process that was stopped, too
                self._look_again(file)
            if not self._is_looked_for(file.missing_look):
                continue
            if file.fd != -1:  # it is read to its end, and closed when it is idle
                if not file.is_sought:
                    file.is_sought = True
                    self._order.ready(file)  # if it was truncated, it has waited for that
                continue
            if not file.is_given_up and self._may_have_copies(file):  # until these are found, its generations wait
                self._give_up(file)
                continue
            self._files.missing.pop(file, None)
            self._report(file)
            self.drop(file, forget=file.deleted)

    def end(self, file: Followed) -> None:
        """Give up *file*, which is open: it was deleted, and read to its end."""
        if file.missing_at is not None and self._may_have_copies(file):
            self._open.close(file)
            file.state = State.DONE
            self._files.owners.of(file).rows.append(file.position())
            self._give_up(file)
        else:
            self.drop(file, forget=True)

    def _give_up(self, file: Followed) -> None:
        """Let what was left aside as copies of *file* be looked for: only now it is certain what of them was read."""
        file.is_given_up = True
        self._files.changed.add(file.path)
        self._look_again(file)

    def _look_again(self, file: Followed) -> None:
        """Let a file without a name be looked for."""
        file.missing_look = self._files.look_number
        for folder in self._nearby(file.folder):
            folder.note_changed(None)

    def _is_looked_for(self, since: int) -> bool:
        """
        Return whether files without a name have been looked for *since* a look: if there are more than a few folders
        that they may have been moved to, by a look at everything, which comes soon.
        """
        if self._has_few_folders:
            is_found_out = all(folder.look_number > since for folder in self._folders.by_path.values())
            return is_found_out and self._files.look_number > since
        return self._files.complete_look > since

    def _nearby(self, path: str) -> list[Folder]:
        """Return the folders in which a file is looked for at once that was in the folder *path*: all, if few."""
        if self._has_few_folders:
            return list(self._folders.by_path.values())
        folder = self._folders.get(path)
        return [] if folder is None else [folder]

    def _may_have_copies(self, file: Followed) -> bool:
        """Return whether there are unknown files that may have been left aside as copies of *file*."""
        base = os.path.basename(file.home)
        return any(base in folder.strangers for folder in self._nearby(os.path.dirname(file.home)))

    def _report(self, file: Followed) -> None:
        """Report what was not read of a file that is given up, as far as is known."""
        is_truncated = file.size < file.offset
        unread_bytes = file.size if is_truncated else file.unread_bytes
        if file.state is not State.LIVE or not (unread_bytes or is_truncated):
            return
        file.state = State.GONE
        reason, at = "a file was removed before it was read to its end", file.position()
        if is_truncated:
            reason = "a file was truncated, and removed before it was read: what was written to it may be missing"
        owner = self._files.owners.of(file)
        owner.losses.append(Loss(reason, lost_bytes=unread_bytes, tag=file.tag, positions=(at,)))
        owner.lines.log(log.warning, "files.gone", path=file.path, bytes=unread_bytes)

    @property
    def _has_few_folders(self) -> bool:
        return len(self._folders.by_path) <= FEW_FOLDERS

    def drop(self, file: Followed, *, forget: bool = False) -> None:
        """Follow *file* no longer. Unless *forget*, it goes on where it is if it comes back."""
        self._open.close(file)
        self._files.missing.pop(file, None)
        if not self._files.is_followed(file):
            return
        owner, after = self._files.owners.of(file), file.after
        self._files.remove(file)
        self._order.link(file.path)
        if forget:
            owner.rows.append(Position(file.name, FORGET))
        else:
            position = file.position()
            row = FileRow(row_path(file.path), file.identity.ino, file.checked_ns, file.state, file.mark, file.home_ns)
            self._files.rows.add(position.name, Row(position, row))
            self._limit_gone(file.name, owner)
        if after is not None:
            self._order.ready(after)
            if after.is_drained or after.is_unreadable:
                self._order.ready_younger(after)

    def _limit_gone(self, name: bytes, owner: Owner) -> None:
        """Keep the rows of the last `GONE_MAX` files of a user that were given up."""
        owner.gone.pop(name, None)
        owner.gone[name] = None
        if len(owner.gone) > GONE_MAX:
            oldest = next(iter(owner.gone))
            del owner.gone[oldest]
            if oldest in self._files.rows:  # it has not come back
                self._files.rows.forget(oldest)
                owner.rows.append(Position(oldest, FORGET))

    # Rows of files that the first look has not found.

    def note_unfound(self) -> None:
        """Take note of the rows whose files the first look has not found: it may have overlooked one in a rename."""
        self._unfound = self._files.rows.all()
        self._unfound_at, self._unfound_look = self._clock(), -1

    @property
    def has_unfound(self) -> bool:
        """Whether there are such rows that are not judged yet."""
        return bool(self._unfound)

    def judge_unfound(self, unread_folders: Set[str]) -> None:
        """
        Report the files that were not found by the first look and by another one a while later, except those in
        *unread_folders*, and forget those that are long gone.
        """
        if not self._unfound or self._clock() - self._unfound_at < VANISHED_S:
            return
        if self._unfound_look == -1:
            self._unfound_look = self._files.look_number
            for folder in self._folders.by_path.values() if self._has_few_folders else ():
                folder.note_changed(None)
        if not self._is_looked_for(self._unfound_look):
            return
        # One that was found, and given up since then, has another row.
        unfound = [each for each in self._unfound if self._files.rows.get(each.position.name) is each]
        self._unfound = []
        lost: list[Row] = []
        now_ns = time.time_ns()
        for found in unfound:
            position, row = found
            path = os.fsdecode(row.path)
            if not self._globs.has(path) or os.path.dirname(self._files.home(path)) in unread_folders:
                continue
            if row.state == State.LIVE:
                lost.append(found)
            elif now_ns - row.seen_ns > MISSING_S * 1e9:
                self._unowned.positions.append(Position(position.name, FORGET))
                self._files.rows.forget(position.name)
        self._report_lost(lost)

    def _report_lost(self, lost: list[Row]) -> None:
        gone = [
            Position(position.name, position.number, msgspec.structs.replace(row, state=State.GONE).encode())
            for position, row in lost
        ]
        reason = "a file was removed while no hub read it: what was written to it after the last read is lost"
        if len(lost) <= LOST_MAX:
            for (_, row), at in zip(lost, gone, strict=True):
                tag = self._files.tag_of(os.fsdecode(row.path))
                self._unowned.losses.append(Loss(reason, tag=tag, positions=(at,)))
                log.warning("files.gone", path=os.fsdecode(row.path))
        else:
            self._unowned.losses.append(Loss(reason, len(lost)))
            self._unowned.positions += gone
            log.warning("files.gone", path=os.fsdecode(lost[0].row.path), files=len(lost))
