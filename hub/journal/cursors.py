"""
The cursors of readers: how far each named reader has delivered the journal, in one small file each.

A cursor is replaced as a whole: made under another name, synced and renamed. So after a crash there is the old one or
the new one, and never a part of either.

Always true:
- the name of a cursor is a file name, and the file is inside the journal's folder;
- a cursor counts only for the journal that it was written for: it has the hub id of that one;
- what retention must keep for a set of cursors is the sequence after the lowest of them.

Here alone: packing and unpacking, reading and writing a cursor.
Not here: who delivers (hub.sinks), deleting segments (hub.journal.retention).
Source: FORMAT.md, "Cursor".
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterable

import msgspec

from hub.checksum import crc32
from hub.journal.files import Files
from hub.journal.retention import NOTHING_NEEDED

_SUFFIX = ".cursor"
_MAGIC = b"MPSRCUR\n"
_HEAD = struct.Struct("<8sI16s")
_CRC_FROM = 12
CURSOR_BYTES_MAX = 1 << 20
"""A larger file is no cursor."""
is_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}").fullmatch
"""Whether a text can be the name of a reader: 1 to 32 letters, digits, hyphens and underscores."""
_is_cursor = re.compile(r"(?:[a-z]{1,16}\.)?[A-Za-z0-9][A-Za-z0-9_-]{0,31}").fullmatch  # with a kind in front


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """
    The last sequence that is delivered, whether the reader is paused, and what the reader needs to continue there.

    *detail* is opaque to the journal. *rewinds*: how often the reader was made to go on elsewhere. Until then, what has
    the same place has the same meaning; after that, what is delivered again is meant to be there twice.
    """

    sequence: int
    is_paused: bool = False
    detail: bytes = b""
    rewinds: int = 0


class CursorDamaged(Exception):
    """The file of a cursor is not whole; translated by the callers."""


def pack_cursor(hub_id: bytes, cursor: Cursor) -> bytes:
    """Return the contents of the file."""
    counted = hub_id + msgspec.msgpack.encode(cursor)
    return _MAGIC + crc32(counted).to_bytes(4, "little") + counted


def unpack_cursor(data: bytes) -> tuple[bytes, Cursor]:
    """Return the hub id and the cursor in *data*. Raises CursorDamaged if it is not whole."""
    if len(data) < _HEAD.size or len(data) > CURSOR_BYTES_MAX:
        raise CursorDamaged
    magic, crc, hub_id = _HEAD.unpack_from(data)
    if magic != _MAGIC or crc32(data[_CRC_FROM:]) != crc:
        raise CursorDamaged
    try:
        return hub_id, msgspec.msgpack.decode(data[_HEAD.size :], type=Cursor)
    except msgspec.DecodeError as error:  # of a version that has other fields
        raise CursorDamaged from error


def needed_from(cursors: Iterable[Cursor]) -> int:
    """Return the lowest sequence that one of *cursors* still needs."""
    return min((cursor.sequence + 1 for cursor in cursors), default=NOTHING_NEEDED)


class Cursors:
    """The cursors in the folder of the journal with *hub_id*. Everything blocks on the disk."""

    def __init__(self, files: Files, hub_id: bytes) -> None:
        self._files = files
        self._hub_id = hub_id

    def read(self, name: str) -> Cursor | None:
        """
        Return the cursor of *name*, None if this journal has none. Raises CursorDamaged, and OSError if it cannot be
        read.
        """
        assert _is_cursor(name)
        try:
            fd = self._files.open(name + _SUFFIX)
        except FileNotFoundError:
            return None
        try:
            hub_id, cursor = unpack_cursor(self._files.read(fd, 0, CURSOR_BYTES_MAX + 1))
        finally:
            self._files.close(fd)
        return cursor if hub_id == self._hub_id else None

    def write(self, name: str, cursor: Cursor) -> None:
        """Replace the cursor of *name*, durably. Raises OSError; then either cursor is in place, whole."""
        assert _is_cursor(name)
        data = pack_cursor(self._hub_id, cursor)
        if len(data) > CURSOR_BYTES_MAX:
            raise ValueError(f"a cursor of {len(data)} bytes")
        new = f"{name}{_SUFFIX}.tmp"
        with contextlib.suppress(FileNotFoundError):
            self._files.remove(new)
        fd = self._files.create(new, len(data))
        try:
            self._files.write(fd, 0, (data,))
            self._files.sync_all(fd)
        finally:
            self._files.close(fd)
        self._files.rename(new, name + _SUFFIX)
        self._files.sync_folder()

    def needed_from(self, names: Iterable[str]) -> int:
        """
        Return the lowest sequence that one of the readers *names* still needs. One without a cursor needs nothing yet;
        one whose cursor cannot be read may need everything.
        """
        cursors: list[Cursor] = []
        for name in names:
            try:
                cursor = self.read(name)
            except (CursorDamaged, OSError):
                return 1
            if cursor is not None:
                cursors.append(cursor)
        return needed_from(cursors)
