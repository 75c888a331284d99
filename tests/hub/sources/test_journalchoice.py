"""hub.sources.journalchoice: which entries are taken."""

from __future__ import annotations

import pytest

from hub.peer import identified
from hub.sources import journalchoice
from hub.sources.journalchoice import JournalChoice, own_cgroup
from hub.wire.journalexport import Entry

OWN = "/system.slice/mpsr.service"
OF_USER = "/user.slice/user-1000.slice/user@1000.service/app.slice/mpsr.service"


def entry(**fields: str) -> Entry:
    """Return an entry with *fields*."""
    return Entry(b"c", b"x", 1, None, [(name.encode(), value.encode()) for name, value in fields.items()], 1)


def wants(each: Entry, *, units: tuple[str, ...] = (), exclude_units: tuple[str, ...] = (), own: str = "") -> bool:
    """Return whether *each* is taken, twice: the second answer is remembered."""
    choice = JournalChoice(units=units, exclude_units=exclude_units, own_cgroup=own)
    first = choice.wants(each)
    assert choice.wants(each) == first
    return first


@pytest.mark.parametrize("own", [OWN, OF_USER])
def test_our_own_service(own: str) -> None:
    """What the hub's service writes is left out, also in a group below its own; another service of that name is not."""
    assert not wants(entry(_SYSTEMD_CGROUP=own, _SYSTEMD_UNIT="x"), own=own)
    assert not wants(entry(_SYSTEMD_CGROUP=f"{own}/part"), own=own)
    assert wants(entry(_SYSTEMD_CGROUP=f"{own}s", _SYSTEMD_UNIT="mpsr.service"), own=own)
    assert wants(entry(_SYSTEMD_CGROUP=own), own="")


def test_a_process_of_ours_that_has_ended() -> None:
    """Of one whose group journald could not read, the unit decides."""
    assert not wants(entry(_SYSTEMD_UNIT="mpsr.service"), own=OWN)
    assert not wants(entry(_SYSTEMD_USER_UNIT="mpsr.service", _SYSTEMD_UNIT="user@1000.service"), own=OF_USER)
    assert wants(entry(_SYSTEMD_UNIT="other.service"), own=OWN)
    assert wants(entry(), own=OWN)


def test_what_systemd_says_about_our_service() -> None:
    """That is not our log."""
    assert wants(entry(_SYSTEMD_CGROUP="/init.scope", _SYSTEMD_UNIT="init.scope", UNIT="mpsr.service"), own=OWN)


def test_units() -> None:
    """Globs choose the units; exclusion wins."""
    nginx, cron, kernel = entry(_SYSTEMD_UNIT="nginx.service"), entry(_SYSTEMD_UNIT="cron.service"), entry()
    assert [wants(each, units=("ngin*",)) for each in (nginx, cron, kernel)] == [True, False, False]
    assert [wants(each, exclude_units=("cron.*",)) for each in (nginx, cron, kernel)] == [True, False, True]
    assert not wants(nginx, units=("*.service",), exclude_units=("nginx.service",))
    assert wants(entry(_SYSTEMD_UNIT="user@1000.service", _SYSTEMD_USER_UNIT="app.service"), units=("app.service",))


def test_what_systemd_says_about_a_unit() -> None:
    """It is of that unit, if it was systemd: others may claim the field."""
    assert wants(entry(_PID="1", _SYSTEMD_UNIT="init.scope", UNIT="nginx.service"), units=("nginx.service",))
    assert not wants(entry(_PID="7", _SYSTEMD_UNIT="cron.service", UNIT="nginx.service"), units=("nginx.service",))


def test_units_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be any number of units."""
    monkeypatch.setattr(journalchoice, "_KEPT_UNITS_MAX", 2)
    choice = JournalChoice(units=("*1.service",), exclude_units=(), own_cgroup="")
    wanted = [number for number in range(40) if choice.wants(entry(_SYSTEMD_UNIT=f"u{number}.service"))]
    assert wanted == [1, 11, 21, 31]
    assert len(choice._known) == 2


@pytest.mark.parametrize(
    ("group", "expected"), [(OWN, OWN), (OF_USER, OF_USER), ("/user.slice/session-3.scope", ""), ("", ""), ("/x", "")]
)
def test_our_own_group(monkeypatch: pytest.MonkeyPatch, group: str, expected: str) -> None:
    """Only a service has its log in the journal: what shares a session or a container with the hub is not left out."""

    def known(pid: int, uid: int, gid: int) -> object:
        peer = identified(pid, uid, gid)
        return type(peer)(pid, uid, gid, cgroup=group)

    monkeypatch.setattr(journalchoice, "identified", known)
    assert own_cgroup() == expected
