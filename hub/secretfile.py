"""
Files with a secret: a shared key, a token, a private key.

Always true: a file that others than its owner and its group could read or change is refused, and so is one that could
be another user's. What is wrong with it is one sentence, without a byte of the secret.

Not here: which folders can be trusted (hub.trust).
"""

from __future__ import annotations

import os
import stat

from hub.trust import Untrusted, check

SECRET_BYTES_MAX = 4096


class Unusable(Exception):
    """A file with a secret cannot be used. The text is a sentence that names the file."""


def check_secret(path: str) -> None:
    """Check that nobody else can know, or replace, what is in the file at *path*. Raises Unusable."""
    try:
        check(os.path.dirname(path))
        there = os.stat(path)
    except Untrusted as error:
        raise Unusable(f"{path}: {error} (another user could replace the file)") from error
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror}") from error
    _check(path, there)


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


def _check(path: str, there: os.stat_result) -> None:
    if not stat.S_ISREG(there.st_mode):
        raise Unusable(f"{path} is no file")
    if there.st_uid not in (0, os.geteuid()):
        raise Unusable(f"{path} belongs to user {there.st_uid} (give it to root or to the hub's user)")
    if there.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise Unusable(f"{path} can be read or changed by other users (chmod 600, or 640 for a group)")
