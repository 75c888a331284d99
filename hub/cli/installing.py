"""
`mpsr install` and `mpsr uninstall`: the hub as a service of systemd.

Always true:
- a file that differs is replaced only with --force; without it, nothing else is written either;
- what was not written by `mpsr install` is never removed, and the journal never;
- systemctl is run only where a manager runs; else the commands are shown.

Not here: what the files say (hub.service.units).
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence

import click

from hub.cli.options import complain, usage_error
from hub.errors import MpsrError
from hub.paths import default_journal
from hub.service.units import HEADING, SYSTEM_STATE, SYSTEM_USER, UNFIT, Scope, unit_files

_HIDDEN = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")
"""What ProtectHome= and PrivateTmp= hide from the system's service."""
_END = (
    ("disable", "mpsr.socket", "mpsr.service"),
    # The socket alone at first: its path is gone then, and the hub serves who still waits in it before it ends.
    ("stop", "--job-mode=ignore-dependencies", "mpsr.socket"),
    ("stop", "mpsr.service"),
)
_PATIENCE_S = 120.0


class NotInstalled(MpsrError):
    """The service is not, or not completely, what was asked for."""


def _scope_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --user and --system, one of which is to be given, as the argument *scope*."""
    user = click.option("--user", "scope", flag_value="user", help="For you: runs as you, with your own journal.")
    system = click.option("--system", "scope", flag_value="system", help="For the host: runs as the user mpsr.")
    return user(system(command))


@click.command()
@_scope_options
@click.option("--print", "show", is_flag=True, help="Only print the files.")
@click.option("--force", is_flag=True, help="Replace files that differ.")
def install(scope: Scope | None, show: bool, force: bool) -> None:
    """Run the hub as a service of systemd, with a socket that outlives it.

    \b
    Example:
      mpsr install --user --print    see what would be written
      mpsr install --user
      sudo mpsr install --system
    """
    scope = _chosen(scope)
    command = _hub_command()
    if fault := _unreachable(command) if scope == "system" else "":
        if not show:
            raise NotInstalled(fault)
        complain(fault)
    files = unit_files(scope, folder=_folder(scope), command=command, journal=_journal(scope))
    if show:
        click.echo("\n".join(f"### {path}\n{text}" for path, text in files.items()), nl=False)
        return
    _need_root(scope, "install")
    replaced = _write(files, force=force)
    if scope == "system":
        _make_user(next(path for path in files if path.endswith(".conf")))
    _manage(scope, [["daemon-reload"], ["enable", "--now", "mpsr.socket", "mpsr.service"]])
    if replaced:
        click.echo(f"to do      {' '.join(_systemctl(scope))} restart mpsr.socket (and mpsr.service with it)")
    click.echo(_LATER[scope].format(journal=_journal(scope)))


@click.command()
@_scope_options
def uninstall(scope: Scope | None) -> None:
    """Stop the service and remove its files. The journal stays, and it is said where."""
    scope = _chosen(scope)
    _need_root(scope, "uninstall")
    paths = [path for path in unit_files(scope, folder=_folder(scope), command=(), journal="") if _is_ours(path)]
    _manage(scope, _END if paths else ())
    for path in paths:
        os.unlink(path)
        click.echo(f"removed    {path}")
    for path in paths:
        if os.path.isdir(f"{path}.d"):
            click.echo(f"left alone {path}.d: it was written by systemctl edit")
    _manage(scope, [["daemon-reload"]] if paths else ())
    if not paths:
        click.echo("nothing is installed")
    click.echo(f"the journal stays in {_journal(scope)}")
    if scope == "system":
        click.echo(f"the user {SYSTEM_USER} stays: userdel {SYSTEM_USER}")


_LATER: dict[Scope, str] = {
    "user": """\
journal    {journal}
look       systemctl --user status mpsr; journalctl --user -u mpsr; mpsr logs -f
stays on   after you log out, and from the start of the machine: loginctl enable-linger""",
    "system": f"""\
journal    {{journal}}
look       systemctl status mpsr; journalctl -u mpsr; sudo mpsr logs -f
send       export MPSR_SOCKET=/run/mpsr/hub.sock, as root or in the group {SYSTEM_USER}
allow      usermod -aG {SYSTEM_USER} NAME""",
}


def _chosen(scope: Scope | None) -> Scope:
    if scope is None:
        raise usage_error("say --user or --system")
    return scope


def _need_root(scope: Scope, verb: str) -> None:
    if scope == "system" and os.geteuid() != 0:
        raise NotInstalled(f"{verb} --system needs root (sudo {_hub_command()[0]} {verb} --system)")


def _folder(scope: Scope) -> str:
    if scope == "system":
        return "/etc/systemd/system"
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(config, "systemd", "user")


def _journal(scope: Scope) -> str:
    return f"{SYSTEM_STATE}/journal" if scope == "system" else os.path.abspath(default_journal())


def _hub_command() -> list[str]:
    """Return what runs this program's hub: the `mpsr` that was called, else the one beside this interpreter."""
    beside = os.path.join(os.path.dirname(sys.executable), "mpsr")
    for path in (os.path.abspath(sys.argv[0]), beside):
        if os.path.basename(path) == "mpsr" and os.access(path, os.X_OK):
            command = [path, "hub"]
            break
    else:
        command = [sys.executable, "-m", "hub"]
    if set(command[0]) & set(UNFIT):
        raise NotInstalled(
            f"systemd cannot run {command[0]} (install it where no quote, $ or backslash is in the path)"
        )
    return command


def _unreachable(command: Sequence[str]) -> str:
    """Return why the system's service cannot run *command*, empty if it can."""
    for path in (command[0], sys.executable, sys.prefix, sys.base_prefix):
        real = os.path.realpath(path)
        if real.startswith(_HIDDEN):
            where = f"{real} is in a folder that a system service does not see"
        elif closed := [folder for folder in _above(real) if not os.stat(folder).st_mode & stat.S_IXOTH]:
            where = f"{closed[0]} is closed to other users"
        else:
            continue
        return f"{where}; install mpsr for all (python3 -m venv /opt/mpsr && /opt/mpsr/bin/pip install mpsr)"
    return ""


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) or "/" for end in range(1, len(parts))]


def _write(files: dict[str, str], *, force: bool) -> bool:
    """
    Write what is not there yet; say whether something else was.

    Raises NotInstalled, without *force* with nothing changed, if something else is there.
    """
    before = {path: _content(path) for path in files}
    differing = [path for path, text in files.items() if before[path] not in (None, text)]
    if differing and not force:
        raise NotInstalled(f"{' and '.join(differing)} differs from what would be written (--force replaces it)")
    for path, text in files.items():
        if before[path] == text:
            click.echo(f"unchanged  {path}")
            continue
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(f"{path}~", "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(f"{path}~", 0o644)
            os.replace(f"{path}~", path)
        except OSError as error:
            raise NotInstalled(f"{path} cannot be written: {error.strerror}") from error
        click.echo(f"{'replaced ' if path in differing else 'written  '}  {path}")
    return bool(differing)


def _content(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_ours(path: str) -> bool:
    content = _content(path)
    if content is not None and not content.startswith(HEADING):
        click.echo(f"left alone {path}: it was not written by mpsr install")
    return (content or "").startswith(HEADING)


def _make_user(sysusers: str) -> None:
    if shutil.which("systemd-sysusers"):
        _run(["systemd-sysusers", sysusers])
    else:
        click.echo(f"to do      useradd --system --home-dir {SYSTEM_STATE} --shell /usr/sbin/nologin {SYSTEM_USER}")


def _manage(scope: Scope, calls: Sequence[Sequence[str]]) -> None:
    """Run systemctl, or show what to run where no manager does."""
    for call in calls:
        command = [*_systemctl(scope), *call]
        if shutil.which("systemctl") and _has_manager(scope):
            _run(command)
        else:
            click.echo(f"to do      {' '.join(command)}")


def _systemctl(scope: Scope) -> list[str]:
    return ["systemctl", "--user"] if scope == "user" else ["systemctl"]


def _has_manager(scope: Scope) -> bool:
    """Say whether a manager answers. Source: sd_booted(3); a user's has its socket in the user's runtime folder."""
    if scope == "system":
        return os.path.isdir("/run/systemd/system")
    run = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return os.path.exists(os.path.join(run, "systemd", "private"))


def _run(command: Sequence[str]) -> None:
    click.echo(f"run        {' '.join(command)}")
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{' '.join(command)} did not end within {_PATIENCE_S:.0f} s (run it by hand)") from None
    if ran.returncode:
        said = (ran.stderr or ran.stdout).strip().partition("\n")[0] or f"exit code {ran.returncode}"
        raise NotInstalled(f"{' '.join(command)}: {said} (put it right, and run it again)")
