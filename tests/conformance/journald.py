"""
Sends with sd_journal_send(3) of the libsystemd that is installed, as programs with journald's native protocol do.

    python journald.py    texts on standard input, a JSON string a line
"""

from __future__ import annotations

import ctypes
import json
import sys


def main() -> None:
    send = ctypes.CDLL("libsystemd.so.0").sd_journal_send
    for line in sys.stdin:
        text = json.loads(line).encode()
        send(b"MESSAGE=%s", text, b"PRIORITY=4", b"SYSLOG_IDENTIFIER=shop", None)


if __name__ == "__main__":
    main()
