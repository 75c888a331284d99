"""`mpsr web` as a user runs it."""

from __future__ import annotations

import functools
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.cli import web
from tests.support import HubProcess, Running, eventually, mpsr

pytestmark = pytest.mark.timeout(100, method="signal")  # one that hangs fails, and the run goes on
Run = Callable[..., tuple[int, bytes, bytes]]


def _get(address: str, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_the_page_is_open_until_it_ends(tmp_path: Path) -> None:
    """The printed address opens the page; Ctrl-C closes it; a hub that stops ends the command with one line."""
    with HubProcess(tmp_path) as hub:
        mpsr("send", "--socket", hub.socket, "--tag", "app", "hello")
        for is_by_hub in (False, True):
            pipe = subprocess.PIPE
            with Running("web", "--no-browser", "--socket", hub.socket, stdout=pipe, stderr=pipe) as running:
                url = running.stdout.readline().decode().strip()
                address, _, token = url.removeprefix("http://").partition("/#token=")
                assert _get(address, "/")[0] == 200
                assert _get(address, "/messages")[0] == 401
                status, body = _get(address, "/messages", Authorization=f"Bearer {token}")
                assert (status, json.loads(body)["record"]) == (200, {"message": "hello"})
                if is_by_hub:
                    assert hub.stop() == 0
                    assert running.wait(30) == 1
                    assert running.stderr.read().startswith(b"mpsr: the hub has ended")
                else:
                    running.send_signal(signal.SIGINT)
                    assert running.wait(30) == 0
                    eventually(functools.partial(_is_closed, address))
        assert token not in json.dumps(hub.log)


def _is_closed(address: str) -> bool:
    try:
        _get(address, "/")
    except ConnectionRefusedError:
        return True
    return False


def test_without_a_hub(tmp_path: Path) -> None:
    """That is an error in one line, and what to do."""
    ended = mpsr("web", "--socket", str(tmp_path / "absent"))
    assert (ended.returncode, ended.stderr.count(b"\n"), b"is one running?" in ended.stderr) == (1, 1, True)


@pytest.mark.parametrize(
    ("variables", "platform", "has_screen"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({}, "darwin", True),
        ({"SSH_CONNECTION": "1 2 3 4"}, "darwin", False),
    ],
)
def test_screens(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], platform: str, has_screen: bool) -> None:
    """A browser is opened only where it has a window."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert web.has_screen() == has_screen


def test_what_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The address is all of the output; over ssh, the command that makes it reachable follows; the browser opens it."""
    there = {"url": "http://127.0.0.1:81/#token=x", "address": "127.0.0.1:81"}
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(web, "has_screen", lambda: True)
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 5 192.0.2.7 22")
    web._show(there, opens=True)
    web._show(there, opens=False)
    out, err = capsys.readouterr()
    assert (out, opened) == (f"{there['url']}\n" * 2, [there["url"]])
    assert "ssh -L 81:127.0.0.1:81 192.0.2.7" in err
    assert os.environ["SSH_CONNECTION"]
