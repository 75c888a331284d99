"""hub.cli.install: `mpsr install` and `mpsr uninstall` as a user runs them, on a simulated machine."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.cli import install, main, systemctl, uninstall
from hub.service import units

NAMES = ("mpsr.socket", "mpsr.service")


class Home:
    """A user's folders, and whether a manager runs; `run` calls the command."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.units = folder / "config/systemd/user"
        self.calls = folder / "calls"
        self.journal = folder / "state/mpsr/journal"
        self._folder = folder
        self._capsys = capsys
        monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder / "run"))
        monkeypatch.setenv("MPSR_JOURNAL", str(self.journal))
        monkeypatch.setenv("PATH", str(folder / "bin"), prepend=os.pathsep)

    def begin_manager(self, answer: str = "exit 0") -> None:
        """Add a manager whose systemctl records its arguments and executes *answer*."""
        (self._folder / "run/systemd").mkdir(parents=True, exist_ok=True)
        (self._folder / "run/systemd/private").touch()
        (self._folder / "bin").mkdir(exist_ok=True)
        systemctl = self._folder / "bin/systemctl"
        systemctl.write_text(f'#!/bin/sh\necho "$@" >>{self.calls}\n{answer}\n')
        systemctl.chmod(0o755)

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def run(self, *args: str) -> tuple[int, str, str]:
        """Return exit code, standard output and standard error."""
        with pytest.raises(SystemExit) as ended:
            main(args)
        out, said = self._capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, said

    def texts(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in sorted(self.units.iterdir())} if self.units.exists() else {}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Home:
    return Home(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_for_whom(verb: str, home: Home) -> None:
    """Without --user or --system it is wrong usage, and nothing is done."""
    code, out, said = home.run(verb)
    assert (code, out, home.texts()) == (2, "", {})
    assert "choose --user or --system" in said


@pytest.mark.parametrize("scope", ["user", "system"])
def test_print(scope: str, home: Home) -> None:
    """--print shows each file in full under its path, and writes nothing."""
    code, out, _ = home.run("install", f"--{scope}", "--print")
    assert (code, home.texts(), home.called()) == (0, {}, [])
    shown = dict(part.split("\n", 1) for part in out.removeprefix("### ").split("\n### "))
    folder = str(home.units) if scope == "user" else "/etc/systemd/system"
    assert list(shown)[:2] == [f"{folder}/{name}" for name in NAMES]
    assert all(text.startswith(units.HEADING) for text in shown.values())
    journal = home.journal if scope == "user" else "/var/lib/mpsr/journal"
    assert f"\nEnvironment=MPSR_JOURNAL={journal}\n" in shown[f"{folder}/mpsr.service"]
    if scope == "system":
        assert "\nu mpsr " in shown["/etc/sysusers.d/mpsr.conf"]


def test_without_a_manager(home: Home) -> None:
    """The files are written, and the remaining commands are shown in order; a second run changes nothing."""
    code, out, said = home.run("install", "--user")
    assert (code, said, sorted(home.texts())) == (0, "", sorted(NAMES))
    to_do = [line.split(None, 2)[2] for line in out.splitlines() if line.startswith("to do")]
    assert to_do == ["systemctl --user daemon-reload", "systemctl --user enable --now mpsr.socket mpsr.service"]
    assert str(home.journal) in out
    assert {stat.S_IMODE(path.stat().st_mode) for path in home.units.iterdir()} == {0o644}
    before = home.texts()
    code, out, _ = home.run("install", "--user")
    assert (code, home.texts(), out.count("unchanged ")) == (0, before, 2)


def test_with_a_manager(home: Home) -> None:
    """The manager loads the units and starts socket and service; uninstalling stops the socket first."""
    home.begin_manager()
    assert home.run("install", "--user")[::2] == (0, "")
    assert home.called() == ["--user daemon-reload", "--user enable --now mpsr.socket mpsr.service"]
    home.calls.unlink()
    home.journal.mkdir(parents=True)
    (home.units / "mpsr.socket.d").mkdir()
    code, out, said = home.run("uninstall", "--user")
    assert (code, said, [path.name for path in home.units.iterdir()]) == (0, "", ["mpsr.socket.d"])
    assert home.journal.exists()
    assert f"left alone {home.units}/mpsr.socket.d: " in out
    assert f"the journal stays in {home.journal}" in out
    assert home.called() == [
        "--user disable mpsr.socket mpsr.service",
        "--user stop --job-mode=ignore-dependencies mpsr.socket",
        "--user stop mpsr.service",
        "--user daemon-reload",
    ]


def test_what_differs_is_not_replaced_unasked(home: Home) -> None:
    """A changed unit is named, and nothing at all is written; --force replaces it and reports that."""
    home.run("install", "--user")
    whole = home.texts()
    (home.units / "mpsr.socket").unlink()
    (home.units / "mpsr.service").write_text("mine")
    code, out, said = home.run("install", "--user")
    assert (code, out, home.texts()) == (1, "", {"mpsr.service": "mine"})
    assert said == f"mpsr: {home.units}/mpsr.service differs from what would be written (use --force to replace)\n"
    code, out, _ = home.run("install", "--user", "--force")
    assert (code, home.texts()) == (0, whole)
    assert f"replaced   {home.units}/mpsr.service\n" in out
    assert "to do      systemctl --user restart mpsr.socket (" in out


def test_what_is_not_ours_is_not_removed(home: Home) -> None:
    """Units that `mpsr install` did not write stay, and so does their service; a missing unit is reported."""
    home.begin_manager()
    home.units.mkdir(parents=True)
    for name in NAMES:
        (home.units / name).write_text("[Unit]\n")
    code, out, said = home.run("uninstall", "--user")
    assert (code, said, sorted(home.texts()), home.called()) == (0, "", sorted(NAMES), [])
    assert out.count("left alone ") == 2
    for name in NAMES:
        (home.units / name).unlink()
    assert "nothing is installed\n" in home.run("uninstall", "--user")[1]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [("echo Access denied >&2; echo more >&2; exit 1", "Access denied"), ("exit 4", "exit code 4")],
)
def test_a_manager_that_refuses(answer: str, reason: str, home: Home) -> None:
    """The error of systemctl is reported in one line, with the command to repeat."""
    home.begin_manager(answer)
    code, _, said = home.run("install", "--user")
    assert (code, said) == (
        1,
        f"mpsr: systemctl --user daemon-reload: {reason} (correct it, and run this command again)\n",
    )


def test_a_folder_that_cannot_be_written(home: Home, tmp_path: Path) -> None:
    """An unwritable folder is reported in one line."""
    (tmp_path / "config").write_text("no folder")
    code, _, said = home.run("install", "--user")
    assert (code, said) == (1, f"mpsr: {home.units}/mpsr.socket cannot be written: Not a directory\n")


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_the_system_is_roots(verb: str, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user gets the command to run as root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(install, "_unreachable", lambda command: "")
    code, out, said = home.run(verb, "--system")
    assert (code, out) == (1, "")
    assert said.startswith(f"mpsr: {verb} --system needs root (sudo /")
    assert said.endswith(f" {verb} --system)\n")


@pytest.mark.parametrize("has_sysusers", [True, False])
def test_for_the_system(has_sysusers: bool, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user is made before the service starts; after uninstalling, the user and the journal stay."""
    ran: list[str] = []
    real: Callable[..., dict[str, str]] = units.unit_files
    root = tmp_path / "root"

    def elsewhere(*args: Any, **options: Any) -> dict[str, str]:
        return {f"{root}{path}": text for path, text in real(*args, **options).items()}

    for command in (install, uninstall):
        monkeypatch.setattr(command, "unit_files", elsewhere)
    for module in (install, systemctl):
        monkeypatch.setattr(module, "run", lambda command: ran.append(" ".join(command)))
    monkeypatch.setattr(install, "_unreachable", lambda command: "")
    monkeypatch.setattr(systemctl, "_has_manager", lambda scope: True)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: has_sysusers or name == "systemctl" or None)
    code, out, said = home.run("install", "--system", "--journald", "--kmsg")
    conf = f"{root}/etc/sysusers.d/mpsr.conf"
    assert (code, said, os.path.exists(conf)) == (0, "", True)
    make = [f"systemd-sysusers {conf}"] if has_sysusers else []
    assert ran == [*make, "systemctl daemon-reload", "systemctl enable --now mpsr.socket mpsr.service"]
    assert ("to do      useradd --system " in out) != has_sysusers
    rights = root / "etc/systemd/system/mpsr.service.d"
    assert sorted(path.name for path in rights.iterdir()) == ["journald.conf", "kmsg.conf"]
    assert "to do      kmsg = true in /etc/mpsr/hub.toml, and systemctl restart mpsr\n" in out
    (rights / "override.conf").write_text("[Service]\n")
    code, out, _ = home.run("uninstall", "--system")
    assert (code, [files for _, _, files in os.walk(root) if files]) == (0, [["override.conf"]])
    (rights / "override.conf").unlink()
    home.run("install", "--system", "--kmsg")
    assert [path.name for path in rights.iterdir()] == ["kmsg.conf"]
    code, out, _ = home.run("uninstall", "--system")
    assert (code, sum(len(files) for _, _, files in os.walk(root)), rights.exists()) == (0, 0, False)
    assert "the journal stays in /var/lib/mpsr/journal\nthe user mpsr stays" in out


@pytest.mark.parametrize("flag", ["--journald", "--kmsg"])
def test_rights_are_for_the_system(flag: str, home: Home) -> None:
    """A user's service cannot be given more rights than its user has: that is wrong usage, and nothing is written."""
    code, _, said = home.run("install", "--user", flag)
    assert (code, home.texts()) == (2, {})
    assert f"{flag} is for --system" in said


def test_a_program_that_the_system_could_not_run(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation in a home folder is refused for the system, with a remedy."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    program = Path("/tmp") / tmp_path.relative_to("/") / "mpsr"
    monkeypatch.setattr(sys, "argv", [str(program)])
    code, _, said = home.run("install", "--system")
    assert (code, said.count("\n")) == (1, 1)
    assert "; install mpsr for all users (" in said


@pytest.mark.parametrize(
    ("name", "mode", "fault"),
    [("/home/a/bin/mpsr", 0o755, "does not see"), ("opt/mpsr", 0o700, "is closed to other"), ("opt/mpsr", 0o755, "")],
)
def test_reachable(name: str, mode: int, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's service cannot run a program that ProtectHome= hides or that is in a closed folder."""
    for word in ("executable", "prefix", "base_prefix"):
        monkeypatch.setattr(sys, word, "/usr")
    monkeypatch.setattr(install, "_HIDDEN", ("/home/",))
    path = tmp_path / name
    if not name.startswith("/"):
        path.parent.mkdir()
        path.touch()
        for folder in list(tmp_path.parents)[:-2]:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
        tmp_path.chmod(mode)
    said = install._unreachable([str(path), "hub"])
    assert (fault in said, bool(said)) == (True, bool(fault))


def test_the_program_is_the_one_that_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link called mpsr is kept, because it outlives an upgrade; else the one beside the interpreter, or none."""
    (tmp_path / "bin").mkdir()
    link = tmp_path / "bin/mpsr"
    link.symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bin/mpsr"])
    assert systemctl.hub_command() == [str(link), "hub"]
    monkeypatch.setattr(sys, "argv", ["-c"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin/python"))
    assert systemctl.hub_command() == [str(link), "hub"]
    link.unlink()
    assert systemctl.hub_command() == [str(tmp_path / "bin/python"), "-m", "hub"]


@pytest.mark.parametrize("letter", units.UNFIT)
def test_a_path_that_systemd_does_not_take(letter: str, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program whose path cannot be written in a unit is refused, and nothing is written."""
    monkeypatch.setattr(sys, "argv", ["-c"])
    monkeypatch.setattr(sys, "executable", f"/opt/{letter}/python")
    code, out, said = home.run("install", "--user")
    assert (code, out, home.texts(), said.count("\n")) == (1, "", {}, 1)
    assert said.startswith(f"mpsr: systemd cannot run /opt/{letter}/python (")
