"""
The unit files of the hub: the socket, which systemd holds, the service, and for the system also its user.

Always true:
- the socket outlives the service: its folder is kept when the service stops (RuntimeDirectoryPreserve=), or systemd
  would remove the file of the socket on which it still listens;
- the hub can identify senders: user ids are the host's (no PrivateUsers=), command names readable (no ProtectProc=);
- the hub may set the setgid bit, which gives files in the spool folder its group (no RestrictSUIDSGID=);
- the rights that a source needs beyond these are in a file of their own, written only if an option asks for it;
- settings that a user's manager cannot apply (mount namespaces, which need PrivateUsers= there) are only in the
  system's unit.

Not here: where the files are installed, and systemctl (hub.cli.install, hub.cli.systemctl).
Source: systemd.unit(5), systemd.service(5), systemd.socket(5), systemd.exec(5), sysusers.d(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Literal

Scope = Literal["user", "system"]
Right = Literal["journald", "kmsg"]
"""Further rights that the system's service can be given."""

HEADING = "# Written by `mpsr install`. What `systemctl edit` writes beside it stays when this file is replaced."
SYSTEM_USER = "mpsr"
UNFIT = "'\"\\$"
_PLAIN = re.compile(r"[\w/.,:=@%+-]+")
SYSTEM_STATE = "/var/lib/mpsr"
SYSUSERS = "/etc/sysusers.d/mpsr.conf"

_SOCKET = """\
[Unit]
Description=Socket of the mpsr message hub

[Socket]
ListenStream=%t/mpsr/hub.sock
FileDescriptorName=mpsr
SocketMode=0660
{owner}DirectoryMode=0755
Backlog=4096
# A hub that outlives its socket unit sees that the file is missing: nobody listens after it, so it serves those that
# wait.
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"""

_SERVICE = """\
[Unit]
Description=mpsr message hub
Requires=mpsr.socket
After=mpsr.socket
# Never give up: what is sent waits in the socket, and once the fault is repaired, the hub starts within a second.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
ExecReload=kill -HUP $MAINPID
Environment=MPSR_SOCKET=%t/mpsr/hub.sock
Environment={environment}
Restart=always
RestartSec=1
# Fed while the receiver is idle or makes progress. Otherwise the hub logs the line it is stuck at, and is restarted.
WatchdogSec=60
Environment=PYTHONFAULTHANDLER=1
SyslogIdentifier=mpsr
RuntimeDirectory=mpsr
# The socket is in there, and stays when the hub stops.
RuntimeDirectoryPreserve=yes
{own}
NoNewPrivileges=yes
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
# The processes of queries in SQL bound their memory and time, and let others go first.
SystemCallFilter=setrlimit prlimit64 setpriority
# Of the processes of the hub, such a one may be killed when memory is short. The hub goes on.
OOMPolicy=continue
SystemCallErrorNumber=EPERM
UMask=0077

[Install]
WantedBy={target}
Also=mpsr.socket
"""

_SYSTEM_ONLY = f"""\
User={SYSTEM_USER}
Group={SYSTEM_USER}
LimitNOFILE=65536
StateDirectory=mpsr
StateDirectoryMode=0750

# A Unix socket and two folders to write to are all it needs. Not here: PrivateUsers=, for it would hide the user ids of
# who sends; ProtectProc=, for it would hide the names of their commands; RestrictSUIDSGID=, for the spools beside the
# socket get its group by the setgid bit of their folder.
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateNetwork=yes
PrivateIPC=yes
PrivateMounts=yes
ProcSubset=pid
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
DevicePolicy=closed
IPAddressDeny=any
KeyringMode=private
RemoveIPC=yes"""

_SYSTEM_SOCKET = f"""\
SocketUser={SYSTEM_USER}
SocketGroup={SYSTEM_USER}
# Before RuntimeDirectory= of the service finds it another's: it would give all that is in it to {SYSTEM_USER}, and the
# socket would lose the group that `systemctl edit` gave it.
ExecStartPre=install -d -o {SYSTEM_USER} -g {SYSTEM_USER} %t/mpsr
"""

_SYSUSERS = f"""\
u {SYSTEM_USER} - "mpsr message hub" {SYSTEM_STATE}
"""


_RIGHTS: dict[Right, str] = {
    "journald": """\
[Service]
# The journal's files are readable to this group.
SupplementaryGroups=systemd-journal
""",
    "kmsg": """\
[Service]
# Where kernel.dmesg_restrict is 1, reading /dev/kmsg needs this capability.
CapabilityBoundingSet=CAP_SYSLOG
AmbientCapabilities=CAP_SYSLOG
ProtectKernelLogs=no
# Beside this one, DevicePolicy=closed leaves /dev/null and the like.
PrivateDevices=no
DeviceAllow=/dev/kmsg r
# The id of this start of the machine is in /proc/sys.
ProcSubset=all
""",
}
RIGHTS: tuple[Right, ...] = tuple(_RIGHTS)


def unit_files(
    scope: Scope, *, folder: str, command: Sequence[str], journal: str, rights: Sequence[Right] = ()
) -> dict[str, str]:
    """
    Return the text of each file by its path: the units in *folder*, for the system the sysusers.d file, and a file for
    each of *rights* beside the service.

    *command* runs the hub in the foreground. The path of its program must not contain a character of `UNFIT`.
    *journal* is the journal's folder.
    """
    is_system = scope == "system"
    sock = _SOCKET.format(owner=_SYSTEM_SOCKET if is_system else "")
    service = _SERVICE.format(
        command=" ".join(_quoted(word) for word in command),
        environment=_quoted(f"MPSR_JOURNAL={journal}"),
        own=_SYSTEM_ONLY if is_system else "",
        target="multi-user.target" if is_system else "default.target",
    )
    texts = {os.path.join(folder, "mpsr.socket"): sock, os.path.join(folder, "mpsr.service"): service}
    if is_system:
        texts[SYSUSERS] = _SYSUSERS
    texts |= {os.path.join(folder, "mpsr.service.d", f"{right}.conf"): _RIGHTS[right] for right in rights}
    return {path: f"{HEADING}\n\n{text}" for path, text in texts.items()}


def _quoted(word: str) -> str:
    """Return *word* quoted so that systemd reads it literally."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return escaped if _PLAIN.fullmatch(escaped) else f'"{escaped}"'
