"""
`mpsr install`: installs the hub as a systemd service.

Always true: a file that differs is replaced only with --force; without --force, nothing is written then.

Not here: the contents of the unit files (hub.service.units).
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Sequence

import click

from hub.cli.output import complain
from hub.cli.systemctl import (
    NotInstalled,
    chosen,
    content,
    folder_of,
    hub_command,
    journal_of,
    manage,
    need_root,
    run,
    scope_options,
    systemctl,
)
from hub.service.units import SYSTEM_STATE, SYSTEM_USER, SYSUSERS, Right, Scope, unit_files

_HIDDEN = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")
"""Folders that ProtectHome= and PrivateTmp= hide from the system's service."""


@click.command()
@scope_options
@click.option("--journald", is_flag=True, help="Let the system's service read the systemd journal.")
@click.option("--kmsg", is_flag=True, help="Let the system's service read the kernel's log.")
@click.option("--print", "show", is_flag=True, help="Print the files and install nothing.")
@click.option("--force", is_flag=True, help="Replace files that differ.")
def install(user: bool, system: bool, journald: bool, kmsg: bool, show: bool, force: bool) -> None:
    """Install the hub as a systemd service.

    systemd holds the socket, which outlives the hub: no client is refused while the hub is restarted. --journald
    and --kmsg only grant the necessary rights; turn the sources on in the configuration.

    \b
    Examples:
      mpsr install --user --print    show what would be written
      mpsr install --user
      sudo mpsr install --system --journald
    """
    scope = chosen(user=user, system=system)
    wanted: dict[Right, bool] = {"journald": journald, "kmsg": kmsg}
    rights = [right for right, is_wanted in wanted.items() if is_wanted]
    if rights and scope == "user":
        raise click.UsageError(f"--{rights[0]} is for --system: a user's service has the rights of the user.")
    command = hub_command()
    if fault := _unreachable(command) if scope == "system" else "":
        if not show:
            raise NotInstalled(fault)
        complain(fault)
    files = unit_files(scope, folder=folder_of(scope), command=command, journal=journal_of(scope), rights=rights)
    if show:
        click.echo("\n".join(f"### {path}\n{text}" for path, text in files.items()), nl=False)
        return
    need_root(scope, "install")
    replaced = _write(files, force=force)
    if scope == "system":
        _make_user(next(path for path in files if path.endswith(SYSUSERS)))
    manage(scope, [["daemon-reload"], ["enable", "--now", "mpsr.socket", "mpsr.service"]])
    if replaced:
        click.echo(f"to do      {' '.join(systemctl(scope))} restart mpsr.socket (and mpsr.service with it)")
    for right in rights:
        click.echo(f"to do      {right} = true in /etc/mpsr/hub.toml, and {' '.join(systemctl(scope))} restart mpsr")
    click.echo(_LATER[scope].format(journal=journal_of(scope)))


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


def _unreachable(command: Sequence[str]) -> str:
    """Return why the system's service cannot run *command*; empty if it can."""
    for path in (command[0], sys.executable, sys.prefix, sys.base_prefix):
        real = os.path.realpath(path)
        if real.startswith(_HIDDEN):
            where = f"{real} is in a folder that a system service does not see"
        elif closed := [folder for folder in _above(real) if not os.stat(folder).st_mode & stat.S_IXOTH]:
            where = f"{closed[0]} is closed to other users"
        else:
            continue
        remedy = "python3 -m venv /opt/mpsr && /opt/mpsr/bin/pip install CHECKOUT_OR_WHEEL"
        return f"{where}; install mpsr for all users ({remedy})"
    return ""


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) or "/" for end in range(1, len(parts))]


def _write(files: dict[str, str], *, force: bool) -> bool:
    """
    Write the files that are missing or differ. Return whether a file that differed was replaced.

    Raises NotInstalled if a file cannot be written, and, without *force*, if one differs; nothing is changed then.
    """
    before = {path: content(path) for path in files}
    differing = [path for path, text in files.items() if before[path] not in (None, text)]
    if differing and not force:
        verb = "differs" if len(differing) == 1 else "differ"
        raise NotInstalled(f"{' and '.join(differing)} {verb} from what would be written (use --force to replace)")
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


def _make_user(sysusers: str) -> None:
    if shutil.which("systemd-sysusers"):
        run(["systemd-sysusers", sysusers])
    else:
        click.echo(f"to do      useradd --system --home-dir {SYSTEM_STATE} --shell /usr/sbin/nologin {SYSTEM_USER}")
