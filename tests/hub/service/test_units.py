"""hub.service.units: unit files that systemd accepts, reads as intended, and rates as safe."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hub.service.systemd import SOCKET_NAME
from hub.service.units import HEADING, RIGHTS, Scope, unit_files

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs Debian's package systemd")
SCOPES: list[Scope] = ["user", "system"]
EXPOSURE_MAX = 0.8
"""
systemd 252 rates 0.7: Unix sockets, a root folder, setgid, visible users and processes, a readable clock. Newer
versions check more.
"""
NEEDS_A_NAMESPACE = re.compile(r"^(Protect\w+|Private\w+|ProcSubset|\w+Paths)=", re.M)


def written(folder: Path, scope: Scope, command: list[str] | None = None) -> list[Path]:
    """Write the units to *folder*; return their paths."""
    if command is None:
        command = [str(executable(folder / "mpsr")), "hub"]
    files = unit_files(scope, folder=str(folder), command=command, journal="/var/lib/mpsr/journal")
    units = {Path(path): text for path, text in files.items() if path.startswith(str(folder))}
    for path, text in units.items():
        path.write_text(text)
    return list(units)


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def analyze(scope: Scope, *args: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", f"--{scope}", "--no-pager", *args]
    env = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "SYSTEMD_COLORS": "0", "LC_ALL": "C"}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def section(text: str, name: str) -> configparser.SectionProxy:
    """Return a section; of a repeated key, the last value."""
    parser = configparser.RawConfigParser(strict=False, comment_prefixes="#", delimiters="=")
    parser.read_string(text)
    return parser[name]


@needs_systemd
@pytest.mark.parametrize("scope", SCOPES)
def test_systemd_takes_them(scope: Scope, tmp_path: Path) -> None:
    """`systemd-analyze verify` reports nothing."""
    ran = analyze(scope, "verify", *map(str, written(tmp_path, scope)), folder=tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@needs_systemd
@pytest.mark.parametrize("name", ["a b", "a%h", "ü", "a;b", "-a", "@a"])
def test_a_path_means_itself(name: str, tmp_path: Path) -> None:
    """systemd finds a program at a path with any characters, and would report a missing one."""
    program = executable(tmp_path / name / "mpsr")
    units = written(tmp_path, "system", [str(program), "hub"])
    ran = analyze("system", "verify", *map(str, units), folder=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    program.unlink()
    ran = analyze("system", "verify", *map(str, units), folder=tmp_path)
    assert ran.returncode != 0
    assert "mpsr is not executable" in ran.stderr


@needs_systemd
def test_the_systems_service_is_locked_in(tmp_path: Path) -> None:
    """`systemd-analyze security` rates no more exposed than the hub's purpose requires."""
    _, service = written(tmp_path, "system")
    ran = analyze("system", "security", "--offline=true", str(service), folder=tmp_path)
    found = re.search(r"Overall exposure level for mpsr.service: ([\d.]+)", ran.stdout)
    assert found is not None, ran.stderr
    assert float(found[1]) <= EXPOSURE_MAX, ran.stdout


@pytest.mark.parametrize("scope", SCOPES)
def test_the_socket_outlives_the_service(scope: Scope) -> None:
    """The socket has the expected name and is in a kept folder; the service is restarted without limit."""
    texts = {
        os.path.basename(path): text
        for path, text in unit_files(scope, folder="/", command=["/x"], journal="/j").items()
    }
    sock, service = section(texts["mpsr.socket"], "Socket"), section(texts["mpsr.service"], "Service")
    assert (sock["FileDescriptorName"], sock["ListenStream"]) == (SOCKET_NAME, "%t/mpsr/hub.sock")
    assert (service["RuntimeDirectory"], service["RuntimeDirectoryPreserve"]) == ("mpsr", "yes")
    assert ("ExecStartPre" in sock) == (scope == "system")  # else the socket loses its group at the first start
    assert (service["Type"], service["Restart"]) == ("notify", "always")
    assert section(texts["mpsr.service"], "Unit")["StartLimitIntervalSec"] == "0"
    assert set(texts) - {"mpsr.socket", "mpsr.service"} == ({"mpsr.conf"} if scope == "system" else set())
    assert all(text.startswith(HEADING) for text in texts.values())


@pytest.mark.parametrize("scope", SCOPES)
def test_the_hub_sees_who_sends(scope: Scope) -> None:
    """User ids are the host's, /proc/PID/comm is readable, setgid allowed; no user setting needs PrivateUsers=."""
    service = unit_files(scope, folder="/", command=["/x"], journal="/j")["/mpsr.service"]
    settings = section(service, "Service")
    assert "PrivateUsers" not in settings
    assert "ProtectProc" not in settings
    assert "RestrictSUIDSGID" not in settings
    assert bool(NEEDS_A_NAMESPACE.search(service)) == (scope == "system")


def test_rights_are_files_of_their_own() -> None:
    """Each file of rights is beside the service, and has what its source needs, and no more; none is there unasked."""
    texts = unit_files("system", folder="/f", command=["/x"], journal="/j", rights=RIGHTS)
    paths = [path for path in texts if path not in unit_files("system", folder="/f", command=["/x"], journal="/j")]
    assert paths == [f"/f/mpsr.service.d/{right}.conf" for right in RIGHTS]
    journald, kmsg = (section(texts[path], "Service") for path in paths)
    assert dict(journald) == {"supplementarygroups": "systemd-journal"}
    assert (kmsg["AmbientCapabilities"], kmsg["DeviceAllow"]) == ("CAP_SYSLOG", "/dev/kmsg r")
    assert all(texts[path].startswith(HEADING) for path in paths)


@needs_systemd
def test_systemd_takes_the_rights(tmp_path: Path) -> None:
    """systemd reads the files of rights beside the service, and accepts them: a wrong word in one is reported."""
    _, service = written(tmp_path, "system")
    (tmp_path / "mpsr.service.d").mkdir()
    for path, text in unit_files("system", folder="/f", command=["/x"], journal="/j", rights=RIGHTS).items():
        if path.startswith("/f/mpsr.service.d/"):
            (tmp_path / path.removeprefix("/f/")).write_text(text)
    ran = analyze("system", "verify", str(service), folder=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    with (tmp_path / "mpsr.service.d" / "kmsg.conf").open("a") as file:
        file.write("NoSuchSetting=1\n")
    assert "NoSuchSetting" in analyze("system", "verify", str(service), folder=tmp_path).stderr
