"""hub.sources.kmsgdevice: the device of the kernel's log."""

from __future__ import annotations

import errno
import os
import re

import pytest

from hub.errors import SourceError
from hub.sources.kinds import KMSG
from hub.sources.kmsgdevice import boot_id, open_device


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENOENT, "there is no such device"), (errno.EPERM, "CAP_SYSLOG"), (errno.EACCES, "CAP_SYSLOG")],
)
def test_faults(monkeypatch: pytest.MonkeyPatch, number: int, expected: str) -> None:
    """A device that is missing, or not for us, is an error that says what to do."""

    def refuse(path: str, flags: int) -> int:
        assert flags & os.O_NONBLOCK
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SourceError, match=expected):
        open_device()


def test_the_device() -> None:
    """It opens, where this user may read it."""
    if not os.access(KMSG, os.R_OK) or os.geteuid() != 0:
        pytest.skip(f"needs root: {KMSG} is not for this user, or not there")
    os.close(open_device())


def test_the_start_of_the_machine() -> None:
    """Its id is that of the kernel."""
    assert re.fullmatch(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", boot_id())
