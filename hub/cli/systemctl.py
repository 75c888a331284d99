"""
Shared by `mpsr install` and `mpsr uninstall`: the scope, the file locations, and the service manager.

Always true: systemctl is run only where a service manager runs; elsewhere the commands are printed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence

import click

from hub.cli.options import usage_error
from hub.errors import MpsrError
from hub.paths import default_journal
from hub.service.units import SYSTEM_STATE, UNFIT, Scope

PATIENCE_S = 120.0


class NotInstalled(MpsrError):
    """The service could not be installed or removed completely."""


def scope_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --user and --system, of which one is required, as the arguments *user* and *system*."""
    for_user = click.option("--user", is_flag=True, help="For you: the hub runs as your user, with your own journal.")
    for_system = click.option("--system", is_flag=True, help="For the host: the hub runs as the user mpsr.")
    return for_user(for_system(command))


def chosen(*, user: bool, system: bool) -> Scope:
    if user == system:
        raise usage_error("choose one of --user and --system" if user else "choose --user or --system")
    return "user" if user else "system"


def need_root(scope: Scope, verb: str) -> None:
    if scope == "system" and os.geteuid() != 0:
        raise NotInstalled(f"{verb} --system needs root (sudo {hub_command()[0]} {verb} --system)")


def folder_of(scope: Scope) -> str:
    if scope == "system":
        return "/etc/systemd/system"
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(config, "systemd", "user")


def journal_of(scope: Scope) -> str:
    return f"{SYSTEM_STATE}/journal" if scope == "system" else os.path.abspath(default_journal())


def hub_command() -> list[str]:
    """Return the command that runs this hub: the `mpsr` that was called, else the one beside the interpreter."""
    beside = os.path.join(os.path.dirname(sys.executable), "mpsr")
    for path in (os.path.abspath(sys.argv[0]), beside):
        if os.path.basename(path) == "mpsr" and os.access(path, os.X_OK):
            command = [path, "hub"]
            break
    else:
        command = [sys.executable, "-m", "hub"]
    if set(command[0]) & set(UNFIT):
        raise NotInstalled(
            f"systemd cannot run {command[0]} (install mpsr in a path without quotes, $ and backslashes)"
        )
    return command


def content(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def manage(scope: Scope, calls: Sequence[Sequence[str]]) -> None:
    """Run systemctl, or print its commands where no service manager runs."""
    for call in calls:
        command = [*systemctl(scope), *call]
        if shutil.which("systemctl") and _has_manager(scope):
            run(command)
        else:
            click.echo(f"to do      {' '.join(command)}")


def systemctl(scope: Scope) -> list[str]:
    return ["systemctl", "--user"] if scope == "user" else ["systemctl"]


def _has_manager(scope: Scope) -> bool:
    """
    Return whether a service manager runs.

    Source: sd_booted(3). A user's manager has its socket in the user's runtime folder.
    """
    if scope == "system":
        return os.path.isdir("/run/systemd/system")
    run = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return os.path.exists(os.path.join(run, "systemd", "private"))


def run(command: Sequence[str]) -> None:
    click.echo(f"run        {' '.join(command)}")
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{' '.join(command)} did not finish within {PATIENCE_S:.0f} s (run it by hand)") from None
    if ran.returncode:
        output = (ran.stderr or ran.stdout).strip().partition("\n")[0] or f"exit code {ran.returncode}"
        raise NotInstalled(f"{' '.join(command)}: {output} (correct it, and run this command again)")
