"""The example for gunicorn, with the configuration that its docstring shows."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import producers.examples
from tests.support import PATIENCE_S, HubProcess, eventually

EXAMPLE = Path(next(iter(producers.examples.__path__))) / "gunicorn_app.py"

if importlib.util.find_spec("gunicorn") is None:
    pytest.skip("gunicorn is not installed", allow_module_level=True)


def configuration() -> str:
    """Return the indented lines of the docstring, without the command."""
    text = ast.get_docstring(ast.parse(EXAMPLE.read_text())) or ""
    lines = [line for line in text.splitlines() if re.match(r"    (?!gunicorn )", line)]
    return textwrap.dedent("\n".join(lines))


def get(path: Path, url: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_S)
        client.connect(str(path))
        client.sendall(f"GET {url} HTTP/1.0\r\n\r\n".encode())
        return b"".join(iter(lambda: client.recv(4096), b""))


def test_gunicorn(folder: Path) -> None:
    """The logs of the application, its workers and gunicorn are in the journal, each with the pid of its process."""
    config, bound = folder / "gunicorn.conf.py", folder / "web"
    config.write_text(configuration())
    command = [sys.executable, "-m", "gunicorn", "-c", str(config), "-b", f"unix:{bound}"]
    with HubProcess(folder) as hub:
        env = {**os.environ, "MPSR_SOCKET": hub.socket, "HOME": str(folder)}
        arguments = [*command, "producers.examples.gunicorn_app:app"]
        with subprocess.Popen(arguments, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as master:
            try:

                def workers() -> set[int]:
                    found = hub.messages("gunicorn.error")
                    return {message.peer.pid for message in found if "Booting" in message.record["message"]}

                eventually(lambda: len(workers()) == 3, "three workers")
                for number in range(10):
                    assert get(bound, f"/{number}").endswith(b"hello\n")
                for pid in workers():
                    os.kill(pid, signal.SIGKILL)
            finally:
                master.terminate()
                output, _ = master.communicate(timeout=PATIENCE_S)
        assert output == b""
        requests = eventually(lambda: (found := hub.messages("shop.web"))[10:] and found)
        access = eventually(lambda: (found := hub.messages("gunicorn.access"))[9:] and found)
    loaded = [message.peer.pid for message in requests if message.record["message"] == "loaded"]
    assert loaded == [master.pid]
    served = {m.record["path"]: m.peer.pid for m in requests if m.record["message"] == "request"}
    assert sorted(served) == [f"/{number}" for number in range(10)]
    assert set(served.values()) <= workers()
    assert len(access) == 10
    assert {message.peer.pid for message in access} == set(served.values())
