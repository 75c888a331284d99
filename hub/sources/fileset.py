"""
The files that one source follows: by identity, by inode, and by the path that they were found at.

Always true:
- a file is here once, whatever names it has, and no two sources have it;
- at most `FILES_MAX` files are here, of one user other than root and ours at most half of them;
- a file that has no name any more stays, as missing, until it is given up (hub.sources.filesgone).

Not here: which files there are (hub.sources.looking), their order (hub.sources.readorder).
"""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping

from hub.log import get_logger
from hub.sources.complaints import Complaints
from hub.sources.fileidentity import Identity
from hub.sources.fileowner import Owners
from hub.sources.filerow import row_path
from hub.sources.followed import Followed, placed
from hub.sources.generations import is_rotated_name
from hub.sources.lookfolder import Folder
from hub.sources.rowindex import RowIndex

FILES_MAX = 50_000
"""Followed at once by one source; a user other than root and ours has at most half of them."""
log = get_logger("mpsr.files")


class FileSet:
    """
    The files of a source. *claims* is shared by all sources of a hub: the first to follow a file has it. *tag_of*
    returns the tag for a path.
    """

    def __init__(
        self,
        complaints: Complaints,
        *,
        tag_of: Callable[[str], bytes],
        claims: MutableMapping[bytes, FileSet],
        clock: Callable[[], float],
    ) -> None:
        self.by_name: dict[bytes, Followed] = {}
        self.by_path: dict[str, list[Followed]] = {}
        """The generations of each, the oldest first."""
        self.by_base: dict[str, set[str]] = {}
        """The paths of the followed files, by the last part of it."""
        self.by_ino: dict[int, set[Followed]] = {}
        self.by_folder: dict[str, dict[Followed, None]] = {}
        """Those that were seen last in a folder."""
        self.rows = RowIndex()
        self.owners = Owners()
        self.homes: dict[str, str] = {}
        """Of paths that are links: where they lead."""
        self.changed: set[str] = set()
        """Paths whose generations have changed."""
        self.missing: dict[Followed, None] = {}
        self.to_ready: list[Followed] = []
        """Those that are to be read after the present look."""
        self.look_number = 0
        self.complete_look = 0
        """The number of the last look that went through all folders."""
        self.look_began_ns = 0
        self.is_ended = False
        """Whether they are free for other sources."""
        self.tag_of = tag_of
        self.complaints = complaints
        self._claims = claims
        self._clock = clock

    def home(self, path: str) -> str:
        """Return where the file of a path is until it is renamed: the path without links."""
        return self.homes.get(path, path)

    def is_followed(self, file: Followed) -> bool:
        """Return whether *file* was not given up: it may be followed anew, as another object."""
        return self.by_name.get(file.name) is file

    def is_known(self, identity: Identity) -> bool:
        """Return whether a file is followed, or has a row."""
        return identity.name in self.by_name or identity.name in self.rows

    def has_ino(self, ino: int) -> bool:
        """Return whether a file with this inode is followed, or has a row."""
        return ino in self.by_ino or self.rows.has_ino(ino)

    def was_home(self, path: str) -> bool:
        """Return whether a file was seen at *path*, and not only what looks like older generations of one."""
        files, rows = self.by_path.get(path, ()), self.rows.of_path(path)
        return any(file.home_ns or not file.is_rotated for file in files) or any(row.home_ns for _, row in rows)

    def may_be_elsewhere(self, path: str, folder: str) -> bool:
        """
        Return whether *folder*, not its own one, may have generations of *path*: there is no log of that name, and no
        other path with that name is known, or a generation of this one was found there before.
        """
        base = os.path.basename(path)
        own = os.path.join(folder, base)
        if self.was_home(own):
            return False
        if any(file.folder == folder for file in self.by_path.get(path, ())):
            return True
        return self.by_base.get(base, set()) <= {path, own} and self.rows.paths_of(base) <= {
            row_path(path),
            row_path(own),
        }

    # Files come and go.

    def is_full(self, uid: int, path: str) -> bool:
        """Return whether no more files of a user are followed, such as that at *path*."""
        if len(self.by_name) < FILES_MAX // 2:
            return False
        owner = self.owners.by_uid.get(uid)
        has_half = owner is not None and owner.files >= FILES_MAX // 2 and uid not in (0, os.geteuid())
        if has_half or len(self.by_name) >= FILES_MAX:
            folder = os.path.dirname(path)
            self.complaints.log(log.warning, "files.too_many", folder, files=len(self.by_name), uid=uid)
            return True
        return False

    def may_follow(self, identity: Identity, uid: int, path: str) -> bool:
        """Return whether a file is free, and there is room for it. It is claimed then."""
        if self.is_full(uid, path):
            return False
        holder = self._claims.get(identity.name)
        if holder is not None and holder is not self and not holder.is_ended:
            self.complaints.log(log.warning, "files.claimed", path)
            return False
        self._claims[identity.name] = self
        return True

    def follow(self, identity: Identity, described: os.stat_result, place: str, path: str) -> Followed:
        """Follow the file at *place*, which was found at *path*, from its start."""
        file = Followed(
            identity, path, self.home(path), *os.path.split(place), tag=self.tag_of(path),
            uid=described.st_uid, gid=described.st_gid, size=described.st_size,
            mtime_ns=described.st_mtime_ns, written_ns=described.st_mtime_ns,
        )  # fmt: skip
        self.by_name[identity.name] = file
        self.by_ino.setdefault(identity.ino, set()).add(file)
        self.by_path.setdefault(path, []).append(file)
        self.by_base.setdefault(os.path.basename(path), set()).add(path)
        self.by_folder.setdefault(file.folder, {})[file] = None
        self.owners.of(file).files += 1
        return file

    def remove(self, file: Followed) -> None:
        """Follow *file* no longer. The others of its path are to be put into their order then."""
        self.by_name.pop(file.name, None)
        self.by_ino[file.identity.ino].discard(file)
        if not self.by_ino[file.identity.ino]:
            del self.by_ino[file.identity.ino]
        self.by_folder[file.folder].pop(file, None)
        if not self.by_folder[file.folder]:
            del self.by_folder[file.folder]
        if self._claims.get(file.name) is self:
            del self._claims[file.name]
        self.owners.of(file).files -= 1
        files = self.by_path[file.path]
        files.remove(file)
        if not files:
            del self.by_path[file.path]
            paths = self.by_base[os.path.basename(file.path)]
            paths.discard(file.path)
            if not paths:
                del self.by_base[os.path.basename(file.path)]

    def release(self) -> None:
        """Leave the files to other sources."""
        self.is_ended = True
        for name in self.by_name:
            if self._claims.get(name) is self:
                del self._claims[name]

    def change_owner(self, file: Followed) -> None:
        """Give *file* to the user that it belongs to now."""
        assert file.new_owner is not None
        self.owners.of(file).files -= 1
        (file.uid, file.gid), file.new_owner = file.new_owner, None
        self.owners.of(file).files += 1

    # The names that they have.

    def place(self, file: Followed, folder: Folder, name: str, described: os.stat_result) -> None:
        """Take note that *file* has this name."""
        file.written_ns = described.st_mtime_ns
        is_home = os.path.join(folder.path, name) == file.home
        is_there = (file.folder, file.entry) == (folder.path, name)
        if is_there or self._rank(file, folder.path, name) > self._rank(file, file.folder, file.entry):
            is_next = True
        else:
            is_next = file.seen != self.look_number and file.folder != folder.path
        if is_next:
            if not is_there:
                file.read_ns = 0
                self._move(file, folder, name)
            file.seen = self.look_number
        if is_home:
            file.seen_home = self.look_number
        self._found(file)
        if (described.st_uid, described.st_gid) != (file.uid, file.gid):
            file.new_owner = described.st_uid, described.st_gid

    def seen(self, file: Followed, folder: Folder, name: str) -> Followed:
        """Take note that *file* still has this name. Its own one counts more than others."""
        is_there = (file.folder, file.entry) == (folder.path, name)
        is_home = placed(folder.path, name) == file.home
        if is_home:
            file.seen_home = self.look_number
            if not is_there:
                self._move(file, folder, name)
        if is_home or is_there:
            file.seen = self.look_number
        return file

    @staticmethod
    def _rank(file: Followed, folder: str, name: str) -> int:
        """Return how much a name counts: its own one most, then those that rotation gives to it."""
        if placed(folder, name) == file.home:
            return 2
        home, base = os.path.split(file.home)
        return int(folder == home and is_rotated_name(name, base))

    def _move(self, file: Followed, folder: Folder, name: str) -> None:
        if file.folder != folder.path:
            self.by_folder[file.folder].pop(file, None)
            self.by_folder.setdefault(folder.path, {})[file] = None
        file.folder, file.entry = folder.path, name
        self.changed.add(file.path)

    def _found(self, file: Followed) -> None:
        if file.missing_at is not None:
            file.missing_at, file.is_given_up = None, False
            self.missing.pop(file, None)
            self.changed.add(file.path)

    def begin_again(self, folder: Folder) -> None:
        """Forget what the present look has seen in a folder."""
        for file in self.by_folder.get(folder.path, ()):
            file.seen = file.seen_home = 0

    def check_places(self, folder: Folder) -> None:
        """Take note of which files that were seen in a folder have other names there now, or none."""
        names: dict[Followed, str] | None = None
        for file in self.by_folder.get(folder.path, ()):
            if folder.places.get(file.entry) is not file:
                if names is None:
                    names = self._best_names(folder)
                if file not in names:
                    self.unplace(file)
                    continue
                file.read_ns = 0
                self._move(file, folder, names[file])
            self._found(file)

    def _best_names(self, folder: Folder) -> dict[Followed, str]:
        """Return the name of each file in a folder that counts most."""
        names: dict[Followed, str] = {}
        for name, file in folder.places.items():
            if file not in names or self._rank(file, folder.path, name) > self._rank(file, folder.path, names[file]):
                names[file] = name
        return names

    def unplace(self, file: Followed) -> None:
        """Take note that *file* has no name any more, as it seems."""
        if file.missing_at is None:
            file.missing_at, file.missing_look, file.is_sought, file.read_ns = self._clock(), -1, False, 0
            self.missing[file] = None
            self.changed.add(file.path)
            self.to_ready.append(file)
