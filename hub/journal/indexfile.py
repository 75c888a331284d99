"""
The file of the index of a sealed segment: what it holds for queries, in three sections of bytes.

An index is derived from its segment: it may be deleted, and is made again. It counts only if it is whole and names its
segment as that is: hub id, size, header, and how many messages have expired by rule.

Always true: a damaged index, or one of another segment, is as good as none; nothing is raised because of the bytes.

Not here: what the sections contain (hub.query.index), who makes them (hub.query.indexing).
Source: FORMAT.md, "Index".
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple

from hub.checksum import crc32
from hub.journal.files import Files
from hub.journal.packed import read_head
from hub.journal.segment import segment_name

VERSION = 3
SECTIONS = 3
_SUFFIX = ".idx"
_NEW_SUFFIX = ".idx.tmp"
_NAME = re.compile(r"([0-9]{20})\.idx(?:\.tmp)?")
_MAGIC = b"MPSRIDX\n"
_HEAD = struct.Struct("<8sII16sQQQIQ" + SECTIONS * "II")
_CRC_FROM = 12


class Identity(NamedTuple):
    """
    The segment that an index is of, in either form: hub id, first sequence, that of the next segment, size of the plain
    form, CRC of the header, and how many messages have expired by rule.
    """

    hub_id: bytes
    first_sequence: int
    next_sequence: int
    size: int
    crc: int
    expired: int = 0


def index_name(first_sequence: int) -> str:
    """Return the file name of the index of the segment that begins with *first_sequence*."""
    return f"{first_sequence:020d}{_SUFFIX}"


def list_indexes(names: Sequence[str]) -> list[tuple[str, int]]:
    """Return the indexes among the *names* in a folder, half-written ones too, with the first sequences."""
    return [(name, int(match[1])) for name in names if (match := _NAME.fullmatch(name))]


def identify(files: Files, first_sequence: int, next_sequence: int) -> Identity | None:
    """Return the identity of a segment, or None if it cannot be read."""
    try:
        fd = files.open(segment_name(first_sequence))
    except OSError:
        return None
    try:
        head = read_head(files, fd)
    except OSError:
        return None
    finally:
        files.close(fd)
    if head is None:
        return None
    hub_id, *described = head
    return Identity(hub_id, first_sequence, next_sequence, *described)


def pack_index(identity: Identity, sections: Sequence[bytes]) -> bytes:
    """Return the contents of the file."""
    table = [number for section in sections for number in (len(section), crc32(section))]
    head = _HEAD.pack(_MAGIC, 0, VERSION, *identity, *table)
    return b"".join((head[:8], crc32(head[_CRC_FROM:]).to_bytes(4, "little"), head[_CRC_FROM:], *sections))


def write_index(files: Files, identity: Identity, sections: Sequence[bytes]) -> int:
    """Write an index in one step. Return its size in bytes. Raises OSError. It is not synced: it can be made again."""
    data, name = pack_index(identity, sections), index_name(identity.first_sequence)
    new = name.removesuffix(_SUFFIX) + _NEW_SUFFIX
    with contextlib.suppress(FileNotFoundError):
        files.remove(new)
    fd = files.create(new, len(data))
    try:
        files.write(fd, 0, (data,))
    finally:
        files.close(fd)
    files.rename(new, name)
    return len(data)


def index_size(files: Files, first_sequence: int) -> int:
    """Return the size in bytes of the index of a segment, whatever is in the file; 0 if there is none."""
    return size_of(files, index_name(first_sequence))


def size_of(files: Files, name: str) -> int:
    """Return the size in bytes of a file; 0 if there is none."""
    try:
        fd = files.open(name)
    except OSError:
        return 0
    try:
        return files.size(fd)
    finally:
        files.close(fd)


class IndexFile:
    """An open index that is whole as far as its header shows. Use it in a ``with``."""

    def __init__(self, files: Files, fd: int, table: Sequence[int]) -> None:
        self._files = files
        self._fd = fd
        self._table = table

    def __enter__(self) -> IndexFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close(self._fd)

    def section(self, number: int) -> bytes | None:
        """Return a section, or None if it is not whole."""
        lengths, crcs = self._table[::2], self._table[1::2]
        try:
            data = self._files.read(self._fd, _HEAD.size + sum(lengths[:number]), lengths[number])
        except OSError:
            return None
        return data if len(data) == lengths[number] and crc32(data) == crcs[number] else None


def open_index(files: Files, first_sequence: int, next_sequence: int) -> IndexFile | None:
    """
    Return the index of the sealed segment from *first_sequence* to before *next_sequence*, with which the next one
    begins; None if there is none that counts.
    """
    try:
        fd = files.open(index_name(first_sequence))
    except OSError:
        return None
    table = None
    try:
        table = _table_of(files.read(fd, 0, _HEAD.size), identify(files, first_sequence, next_sequence), files.size(fd))
    except OSError:
        return None
    finally:
        if table is None:
            files.close(fd)
    return None if table is None else IndexFile(files, fd, table)


def _table_of(head: bytes, identity: Identity | None, size: int) -> Sequence[int] | None:
    """Return the lengths and CRCs of the sections, or None if the index is not whole, or not of this segment."""
    if identity is None or len(head) < _HEAD.size:
        return None
    magic, crc, version, *fields = _HEAD.unpack(head)
    if magic != _MAGIC or crc32(head[_CRC_FROM:]) != crc or version != VERSION:
        return None
    named, table = fields[: len(identity)], fields[len(identity) :]
    return table if tuple(named) == identity and _HEAD.size + sum(table[::2]) == size else None
