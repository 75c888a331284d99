"""
Checks whether a hub could start with a configuration, without starting one.

Always true: nothing is made, changed or deleted; a hub that runs with this configuration is not disturbed, and does not
make it invalid.

Not here: sinks (hub.sinks.table), conditions that only the start itself can find, such as another hub at the socket
(hub.socketfile).
Source: statvfs(3); chown(2): a process may give its files to its own groups only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from hub.errors import JournalUnusable, MpsrError, SocketError, SourceError
from hub.journal.files import DiskFiles
from hub.journal.recovery import check_recoverable
from hub.journal.retention import segment_bytes_for
from hub.lockfile import holder_of
from hub.natsplace import options_of
from hub.paths import is_abstract
from hub.quantities import Size
from hub.secretfile import Unusable, read_secret
from hub.service.config import Config
from hub.service.tables import type_of
from hub.socketpath import CHOOSE_A_FOLDER, check_folder, check_length, check_names, group_id
from hub.sources.credentials import load as load_credentials
from hub.sources.fileglob import Exclusion, Glob
from hub.sources.journalfiles import check_journal
from hub.sources.kinds import Files, FileTable, Http, Jetstream, Journald, Kmsg, SourceTable, Tcp
from hub.sources.kmsgdevice import open_device
from hub.sources.table import SOURCES, as_source_error, check_extra
from hub.web.permanent import check_page

_OF_KERNEL = frozenset(
    ["proc", "sysfs", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "configfs", "devpts", "bpf", "pstore"]
)


def check_start(config: Config, *, is_socket_inherited: bool = False) -> None:
    """
    Raise what the start would raise: UnknownGroup, SocketPathTooLong, SocketError or JournalError.

    *is_socket_inherited*: systemd has made the socket, and its group is not checked.
    """
    gid = group_id(config.group)
    check_length(config.socket)
    if not is_abstract(config.socket):
        check_folder(config.socket)
        if fault := _fault_of_folder(os.path.dirname(config.socket)):
            raise SocketError(config.socket, f"{fault} ({CHOOSE_A_FOLDER})")
        if not is_socket_inherited:
            _check_socket(config.socket, gid)
    if fault := _fault_of_folder(config.journal) or _fault_of_files(config.journal):
        raise JournalUnusable(config.journal, f"{fault} (choose a --journal in a folder of yours)")
    with contextlib.suppress(FileNotFoundError):  # it will be made, or a hub deletes expired segments
        check_recoverable(DiskFiles(config.journal), path=config.journal)
    if fault := _fault_of_disk(config.journal, config.journal_size):
        raise JournalUnusable(config.journal, fault)


def users_of(config: Config) -> dict[int, list[str]]:
    """
    Return the processes that have the socket or the journal of *config* (0 for an unknown process), and which of the
    two each has.
    """
    locks = {"journal": os.path.join(config.journal, "lock")}
    if not is_abstract(config.socket):
        locks["socket"] = f"{config.socket}.lock"
    found: dict[int, list[str]] = {}
    for name, path in locks.items():
        if (pid := holder_of(path)) is not None:
            found.setdefault(pid, []).append(name)
    return found


def _check_socket(path: str, gid: int) -> None:
    check_names(path)
    if fault := _fault_of_file(f"{path}.lock"):
        raise SocketError(path, f"{fault} ({CHOOSE_A_FOLDER})")
    if gid not in (-1, os.getegid(), *os.getgroups()) and os.geteuid() != 0:
        raise SocketError(path, f"{os.strerror(errno.EPERM)}: group {gid} (choose a --group of yours)")


def check_sources(config: Config) -> None:
    """Raise SourceError for a source that could not be opened. A hub would start, and try again."""
    for source in config.all_sources:
        try:
            _check_source(source)
        except (MpsrError, OSError) as error:
            raise as_source_error(source, error) from error


def check_web(config: Config) -> None:
    """Raise SourceError if the page of the table ``[web]`` could not be opened. A hub would start, and try again."""
    if config.web is not None:
        check_page(config.web.address, config.web.token_file)


def notes_on_sources(config: Config) -> Iterator[str]:
    """Yield a sentence for each glob that matches no file that can be read: such files may appear later."""
    for source in config.all_sources:
        if isinstance(source, Files):
            exclusion = Exclusion(source.excluded)
            for path in source.paths:
                if (note := _note_on_glob(Glob(path), exclusion)) is not None:
                    yield f"{path}: {note}"


def _note_on_glob(glob: Glob, exclusion: Exclusion) -> str | None:
    found = 0
    try:
        for folder in glob.folders(set()):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
                for entry in entries:
                    if glob.takes(folder, entry.name, exclusion):
                        if glob.is_plain and entry.is_dir():
                            return f"a folder, not files (write {glob.text}/*.log)"
                        found += 1
                        if not os.access(entry.path, os.R_OK):
                            return f"{entry.path} cannot be read (its group may: SupplementaryGroups= of the unit)"
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}"
    if found:
        return None
    return "no file matches now" + (" (braces are no wildcard: write several globs)" if "{" in glob.text else "")


def _check_source(source: SourceTable) -> None:
    check_extra(source)
    if isinstance(source, Http):
        _check_http(source)
    elif isinstance(source, Tcp):
        load_credentials(source)
    elif isinstance(source, Journald):
        check_journal(source.where, source.directory)
    elif isinstance(source, Jetstream):
        _check_jetstream(source)
    elif isinstance(source, Kmsg):
        os.close(open_device())
    elif isinstance(source, FileTable):
        _check_file(source.path, source.group, is_socket=SOURCES[type_of(source)].is_socket)


def _check_http(source: Http) -> None:
    if source.path is not None:
        _check_file(source.path, source.group, is_socket=True)
    if source.token_file is not None:
        try:
            read_secret(source.token_file)
        except Unusable as error:
            raise SourceError(source.where, str(error)) from error


def _check_jetstream(source: Jetstream) -> None:
    try:
        options_of(source)
    except Unusable as error:
        raise SourceError(source.where, str(error)) from error


def _check_file(path: str, group: str | None, *, is_socket: bool) -> None:
    gid = group_id(group)
    check_folder(path)
    if gid not in (-1, os.getegid(), *os.getgroups()) and os.geteuid() != 0:
        raise SourceError(path, f"{os.strerror(errno.EPERM)}: group {gid} (choose a group of yours)")
    if is_socket:
        check_length(path)
        check_names(path)
    elif os.path.lexists(path):
        if not stat.S_ISFIFO(os.lstat(path).st_mode):
            raise SourceError(path, "a file that is not a pipe is already there (choose another path)")
        return
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise SourceError(path, f"there is no folder {folder} (make it, or choose another path)")
    if fault := _fault_of_folder(folder):
        raise SourceError(path, f"{fault} (choose a path in a folder of yours)")


def _fault_of_folder(folder: str) -> str:
    """Return why *folder* could not be made or written to; empty if it could."""
    folder = _nearest(folder)
    if not os.path.isdir(folder):
        return f"{folder} is not a folder"
    try:
        if _is_kernels(folder):
            return f"{folder} is in a file system of the kernel, which keeps no files"
        return "" if os.access(folder, os.W_OK | os.X_OK) else f"{_why(folder)}: {folder}"
    except OSError as error:
        return f"{error.strerror}: {folder}"


def _is_kernels(folder: str) -> bool:
    """Return whether *folder* is in a file system in which only the kernel makes files, although root has the right."""
    if os.statvfs(folder).f_blocks:
        return False
    device = os.stat(folder).st_dev
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            rows = [line.split() for line in mounts]
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    return any(row[2] == number and row[row.index("-") + 1] in _OF_KERNEL for row in rows)


def _nearest(path: str) -> str:
    """Return *path*, or the nearest of the folders above it that exists."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def _why(folder: str) -> str:
    """Return why a folder cannot be written to: root, too, cannot write to a disk that is mounted read-only."""
    is_read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
    return os.strerror(errno.EROFS if is_read_only else errno.EACCES)


def _fault_of_files(folder: str) -> str:
    """Return why the files of a journal could not be opened as the start opens them; empty if they could."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{error.strerror}: {folder}"
    if fault := _fault_of_file(os.path.join(folder, "lock")):
        return fault
    for name in names:
        path = os.path.join(folder, name)
        if name.endswith(".seg") and os.path.lexists(path) and not os.access(path, os.R_OK | os.W_OK):
            return f"{os.strerror(errno.EACCES)}: {path}"
    return ""


def _fault_of_file(path: str) -> str:
    """Return why *path* could not be opened as a file of ours to lock; empty if it could, or does not exist."""
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{error.strerror}: {path}"
    if not stat.S_ISREG(there.st_mode):
        return f"{path} is not a file"
    may_set_mode = os.geteuid() in (0, there.st_uid) or stat.S_IMODE(there.st_mode) == 0o600
    return "" if may_set_mode and os.access(path, os.R_OK | os.W_OK) else f"{os.strerror(errno.EACCES)}: {path}"


def _fault_of_disk(folder: str, journal_size: Size) -> str:
    """
    Return why the disk cannot hold a journal of *journal_size* bytes, or its next segment; empty if it may be able to.

    The start frees what it deletes, and what is reserved in the newest segment, which is not known here.
    """
    disk = os.statvfs(_nearest(folder))
    if not disk.f_blocks:  # a file system that does not report it
        return ""
    total, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    if total < journal_size:
        return f"the disk has {_shown(total)} (set journal_size, which is {journal_size.text}, to less)"
    segment = segment_bytes_for(journal_size)
    sizes = _sizes_in(folder)
    expiring = max(sum(sizes) + segment - journal_size, 0)
    if free + expiring + max(sizes, default=0) < segment:
        return f"{_shown(free)} are free on the disk, {_shown(segment)} needed (free some, or set journal_size to less)"
    return ""


def _sizes_in(folder: str) -> list[int]:
    sizes: list[int] = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                sizes.append(entry.stat(follow_symlinks=False).st_size)
    return sizes


def _shown(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
