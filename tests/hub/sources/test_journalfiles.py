"""hub.sources.journalfiles: journalctl, and files that can be read."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest

from hub.errors import SourceError
from hub.sources import journalfiles
from hub.sources.journalfiles import check_journal, find, is_all_readable, machine_id
from tests.journald import script
from tests.users import ALICE, NEEDS_ROOT, as_user, open_folder


def test_a_missing_journalctl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is found in the path, or the error names it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="there is no journalctl on this machine"):
        check_journal("journald", None)
    path = script(tmp_path / "journalctl", [])
    assert check_journal("journald", None) == find() == path


def test_a_missing_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The folder has to be there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    path = script(tmp_path / "journalctl", [])
    assert check_journal(str(tmp_path), str(tmp_path)) == path
    with pytest.raises(SourceError, match="there is no such folder"):
        check_journal("x", str(tmp_path / "missing"))


@NEEDS_ROOT
def test_folders_and_files_of_others() -> None:
    """A folder or a file that this user cannot read is noticed."""
    with open_folder() as folder:
        inner = folder / "0123"
        inner.mkdir(mode=0o755)
        script(folder / "journalctl", [])
        for path in (folder / "system.journal", inner / "user-1000@x.journal"):
            path.write_bytes(b"")
            path.chmod(0o644)

        def look() -> list[object]:
            os.environ["PATH"] = str(folder)
            try:
                check_journal("x", str(folder))
                fault = ""
            except SourceError as error:
                fault = error.reason
            return [is_all_readable(str(folder)), "systemd-journal" in fault]

        assert as_user(ALICE, look) == "[True, False]"
        (inner / "user-1000@x.journal").chmod(0o600)
        assert as_user(ALICE, look) == "[False, False]"
        folder.chmod(0o711)
        assert as_user(ALICE, look) == "[False, True]"


def test_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The files of this machine are in folders named after its id; a journal that is not there can be read."""
    monkeypatch.setattr(journalfiles, "_MACHINE_ID", str(tmp_path / "id"))
    monkeypatch.setattr(journalfiles, "_FOLDERS", (str(tmp_path / "missing"), str(tmp_path)))
    assert machine_id() == ""
    (tmp_path / "id").write_text("0123\n")
    assert machine_id() == "0123"
    assert is_all_readable(None)
    (tmp_path / "0123").mkdir()
    (tmp_path / "0123" / "system.journal").symlink_to(tmp_path / "nowhere")
    assert not is_all_readable(None)


def test_a_file_that_goes_while_they_are_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A vacuum has deleted it: that is not a file that somebody may not read, behind which losses cannot be counted."""
    path = tmp_path / "system.journal"
    path.write_bytes(b"")

    def listed(pattern: str) -> list[str]:
        path.unlink(missing_ok=True)
        return [str(path)]

    monkeypatch.setattr(glob, "iglob", listed)
    assert is_all_readable(str(tmp_path))
    assert not path.exists()


def test_the_name_of_a_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine, or a folder; a long path is replaced by a checksum, and two are not mixed up."""
    monkeypatch.setattr(journalfiles, "machine_id", lambda: "0123")
    assert journalfiles.identity(None) == b"0123"
    assert journalfiles.identity("/var/log/x") == journalfiles.identity("/var/log//y/../x/") == b"/var/log/x"
    long = ["/" + "x" * 1000 + end for end in "ab"]
    assert len({journalfiles.identity(path) for path in long}) == 2
    assert max(len(journalfiles.identity(path)) for path in long) <= 64


def test_the_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """All starts of this machine, and no other machine."""
    monkeypatch.setattr(journalfiles, "machine_id", lambda: "0123")
    assert journalfiles.chosen(None) == ["--merge", "_MACHINE_ID=0123"]
    monkeypatch.setattr(journalfiles, "machine_id", lambda: "")
    assert journalfiles.chosen(None) == ["--merge"]
    assert journalfiles.chosen("/x") == ["--merge", "--directory=/x"]
