"""
Files that decide which clients are admitted: with a secret (a shared key, a token, a private key) or certificates.

Always true: a file is refused if users other than its owner could change it, or if another user could have put it
there; one with a secret, also if users other than its owner and its group could read it. A fault is reported in one
sentence, without a byte of the secret.

Not here: which folders can be trusted (hub.trust).
"""

from __future__ import annotations

import os
import stat

from hub.trust import Untrusted, check

SECRET_BYTES_MAX = 4096
CERTIFICATES_BYTES_MAX = 256 << 10
"""The authorities of a whole system have 220 KiB, and take 17 ms to read."""


class Unusable(Exception):
    """A file cannot be used. The text is a sentence that names the file."""


def check_secret(path: str) -> None:
    """Check that only owner and group can read the file at *path*, and no other user replace it. Raises Unusable."""
    _check(path, _stat(path))


def check_certificates(path: str) -> None:
    """Check that no other user can change or replace the certificates in the file at *path*. Raises Unusable."""
    there = _stat(path)
    _check_owner(path, there)
    if there.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Unusable(f"{path} can be changed by other users (chmod 644)")
    if there.st_size > CERTIFICATES_BYTES_MAX:
        raise Unusable(f"{path} has more than {CERTIFICATES_BYTES_MAX} bytes: is it the right file?")


def stamp_of(path: str) -> tuple[int, ...]:
    """
    Return a value that differs whenever the file at *path* is changed, replaced, made or removed, or its owner or mode
    is changed.
    """
    try:
        there = os.stat(path)
    except OSError as error:
        return (error.errno or 0,)
    return there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns, there.st_mode, there.st_uid


def read_secret(path: str) -> bytes:
    """Return the secret in the file at *path*, without the newline at its end. Raises Unusable."""
    check_secret(path)
    try:
        with open(path, "rb") as file:
            _check(path, os.fstat(file.fileno()))
            secret = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror}") from error
    if len(secret) > SECRET_BYTES_MAX:
        raise Unusable(f"{path} has more than {SECRET_BYTES_MAX} bytes: is it the right file?")
    secret = secret.rstrip(b"\r\n")
    if not secret:
        raise Unusable(f"{path} is empty (write the secret into it)")
    return secret


def _stat(path: str) -> os.stat_result:
    """Return the stat of *path*, whose folder is one in which no other user can replace it. Raises Unusable."""
    try:
        check(os.path.dirname(path))
        return os.stat(path)
    except Untrusted as error:
        raise Unusable(f"{path}: {error} (another user could replace the file)") from error
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror}") from error


def _check(path: str, there: os.stat_result) -> None:
    _check_owner(path, there)
    if there.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise Unusable(f"{path} can be read or changed by other users (chmod 600, or 640 for a group)")


def _check_owner(path: str, there: os.stat_result) -> None:
    if not stat.S_ISREG(there.st_mode):
        raise Unusable(f"{path} is not a file")
    if there.st_uid not in (0, os.geteuid()):
        raise Unusable(f"{path} belongs to user {there.st_uid} (give it to root or to the hub's user)")
