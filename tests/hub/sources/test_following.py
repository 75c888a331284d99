"""hub.sources.following: all files of a source, without an event loop: looks, steps, and what they give."""

from __future__ import annotations

import pytest

from hub.sources import openfiles
from hub.sources.followed import REST_S
from hub.sources.following import IDLE_S, REFRESH_S
from hub.sources.kinds import EXCLUDE
from tests.hub.sources.followrig import Rig


def test_every_restart_goes_on(rig: Rig) -> None:
    """Whatever was read is not read again."""
    rig.start()
    for n in range(5):
        rig.write("app.log", f"{n}\n")
        assert rig.all() == [str(n)]
        rig.start()
        assert rig.read() == []
    assert rig.losses == []


def test_idle_files_are_closed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file at its end is closed after a while, and the one used longest ago when too many are open."""
    rig.start()
    for n in range(5):
        rig.write(f"{n}.log", "x\n")
    rig.all()
    assert sum(file.fd != -1 for file in rig.it.files.values()) == 5
    rig.wait(IDLE_S)
    assert sum(file.fd != -1 for file in rig.it.files.values()) == 0
    monkeypatch.setattr(openfiles, "OPEN_MAX", 2)
    rig.start()
    for n in range(5):
        rig.write(f"{n}.log", "y\n")
    assert rig.all() == ["y"] * 5
    assert sum(file.fd != -1 for file in rig.it.files.values()) == 2


def test_rows_are_refreshed(rig: Rig) -> None:
    """The rows of all files that exist are written again every day."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.all()
    names = set(rig.positions)
    for _ in range(2):
        rig.positions.clear()
        rig.wait(REFRESH_S)
        assert set(rig.positions) == names


def test_events(rig: Rig) -> None:
    """A write makes a file ready, a name makes its folder due; nothing else is looked at."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.it.note_changed(str(rig.folder), "app.log")
    assert rig.it.next_look_in == 0.0
    rig.look(everything=False)
    assert rig.read() == ["1"]
    assert rig.it.next_look_in is None
    rig.write("app.log", "2\n")
    rig.look(everything=False)
    assert rig.read() == []
    rig.it.note_modified(str(rig.folder), "app.log")
    assert rig.read() == ["2"]
    rig.it.note_modified("/nowhere", "x")
    rig.it.note_changed("/nowhere", "x")


def test_polling(rig: Rig) -> None:
    """Sizes are looked at where nothing is reported."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.all()
    rig.write("app.log", "2\n")
    for _ in rig.it.look_at_sizes({"/elsewhere"}):
        pass
    assert rig.read() == []
    for _ in rig.it.look_at_sizes({str(rig.folder)}):
        pass
    assert rig.read() == ["2"]


def test_the_lag(rig: Rig) -> None:
    """It is what is known and not read."""
    rig.start()
    assert rig.it.lag == (0, None)
    rig.write("app.log", "1\n")
    rig.look()
    unread_bytes, since = rig.it.lag
    assert unread_bytes == 2
    assert since is not None
    rig.read()
    assert rig.it.lag == (0, None)


def test_half_a_line_of_a_renamed_file(rig: Rig) -> None:
    """It is taken when nothing has come for a while."""
    rig.start()
    rig.write("app.log", "1\nhalf")
    assert rig.all() == ["1"]
    rig.rename("app.log", "app.log.1")
    assert rig.all() == []
    assert rig.wait(REST_S + 1) == ["half"]


def test_sizes_of_a_file_that_was_replaced(rig: Rig) -> None:
    """The size of another file under the name is not taken for its own: the folder is looked through."""
    rig.start()
    rig.write("app.log", "1\n" * 50)
    rig.all()
    file = next(iter(rig.it.files.values()))
    rig.rename("app.log", "app.log.1")
    rig.write("app.log", "2\n")
    for _ in rig.it.look_at_sizes({str(rig.folder)}):
        pass
    assert file.size == 100
    rig.look(everything=False)
    assert rig.read() == ["2"]
    assert rig.losses == []


def test_a_file_that_is_excluded_later(rig: Rig) -> None:
    """It is not read any longer, although it has a position; without the exclusion, it goes on where it was."""
    rig.write("app.log", "1\n")
    rig.write("web.log", "2\n")
    rig.start()
    assert sorted(rig.read()) == ["1", "2"]
    rig.exclude = (*EXCLUDE, "web*")
    rig.start()
    rig.write("app.log", "3\n")
    rig.write("web.log", "4\n")
    assert rig.all() == ["3"]
    rig.exclude = EXCLUDE
    rig.start()
    assert rig.read() == ["4"]
