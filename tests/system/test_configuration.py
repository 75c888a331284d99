"""Configuration with real processes: `mpsr config`, `mpsr hub --check`, reloads, and access rules."""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from producers import CommandFailed, Producer, call
from tests.hub.clients import chunk, connect, read_acks
from tests.support import MPSR, HubProcess, eventually, mpsr

ME = f"uid:{os.geteuid()}"


class Configured:
    """A hub with its own configuration file."""

    def __init__(self, folder: Path, text: str = "") -> None:
        self.file = folder / "hub.toml"
        self.file.write_text(text)
        self.hub = HubProcess(folder, "--config", str(self.file))

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def hang_up(self, event: str) -> dict[str, Any]:
        """Send SIGHUP; return the log event that follows."""
        before = len(self._said(event))
        self.hub.process.send_signal(signal.SIGHUP)
        said: list[dict[str, Any]] = eventually(lambda: self._said(event)[before:], event)
        return said[0]

    def _said(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.hub.log if line["event"] == event]


def test_check_starts_nothing(tmp_path: Path) -> None:
    """A valid configuration is reported as valid, and neither socket nor journal is made."""
    done = mpsr("hub", "--check", "--socket", str(tmp_path / "s"), "--journal", str(tmp_path / "j"))
    assert (done.returncode, done.stdout) == (0, b"mpsr: valid (no file)\n")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ('journal_szie = "1GiB"', 2, "did you mean journal_size?"),
        ('journal_size = "much"', 2, "write it like 64MiB"),
        ("journal_size", 2, "not TOML"),
        ('group = "no-such-group"', 2, "no such group: no-such-group (see `getent group`"),
        ('socket = "/proc/version/s"', 1, "/proc/version is not a folder (choose a --socket in a folder of yours)"),
        ('journal = "/dev/null/j"', 1, "/dev/null is not a folder (choose a --journal in a folder of yours)"),
    ],
)
@pytest.mark.parametrize("check", [["--check"], []])
def test_a_wrong_configuration_is_one_line(line: str, code: int, said: str, check: list[str], tmp_path: Path) -> None:
    """The line names the fault and a correct value; nothing is started or made, with or without --check."""
    path = tmp_path / "hub.toml"
    others = {"socket": str(tmp_path / "s"), "journal": str(tmp_path / "j")}
    others.pop(line.partition(" ")[0], None)
    path.write_text("".join(f'{name} = "{value}"\n' for name, value in others.items()) + line)
    done = mpsr("hub", "--config", str(path), *check)
    (text,) = done.stderr.decode().splitlines()
    assert (done.returncode, text.startswith("mpsr: ")) == (code, True)
    assert said in text
    assert os.listdir(tmp_path) == ["hub.toml"]


def test_config_says_what_is_in_force_and_why(tmp_path: Path) -> None:
    """Each key, its value and its origin are shown; the example is a valid file."""
    path = tmp_path / "hub.toml"
    path.write_text('journal_age = "7d"\nsend_deny = ["uid:5", "comm:x"]')
    environ = {**os.environ, "MPSR_MODE": "0666"}
    done = subprocess.run([*MPSR, "config", "--config", str(path)], capture_output=True, check=True, env=environ)
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.decode().splitlines()}
    assert rows["journal_age"] == ["7d", str(path)]
    assert rows["mode"] == ["0666", "MPSR_MODE"]
    assert rows["send_deny"] == ["uid:5,", "comm:x", str(path)]
    assert rows["durability"] == ["fsync", "default"]
    assert rows["read_allow"] == ["the", "hub's", "own", "user", "and", "root", "default"]
    assert (rows["send_allow"], rows["group"]) == (["everybody", "default"], ["-", "default"])
    values = json.loads(mpsr("config", "--config", str(path), "--json").stdout)
    assert values["values"]["journal_age"] == {"value": "7d", "from": str(path)}
    path.write_bytes(mpsr("config", "--example").stdout)
    assert mpsr("config", "--config", str(path)).returncode == 0


def test_a_reload_changes_what_can_change(tmp_path: Path) -> None:
    """A reload by signal or command names what needs a restart; open connections and their messages stay."""
    configured = Configured(tmp_path)
    with configured.hub as hub, Producer(hub.socket) as producer:
        producer.send({"n": 1})
        producer.flush(30)
        configured.write('mode = "0600"\njournal_size = "8MiB"\ndurability = "relaxed"\nlog_level = "debug"')
        said = configured.hang_up("config.reloaded")
        assert (said["changed"], said["needs_restart"]) == (["mode", "journal_size", "log_level"], ["durability"])
        assert os.stat(hub.socket).st_mode & 0o777 == 0o600
        configured.write('journal_age = "7d"')
        assert call("reload", path=hub.socket) == {
            "file": str(configured.file),
            "changed": ["mode", "journal_size", "journal_age", "log_level"],
            "needs_restart": [],
        }
        assert os.stat(hub.socket).st_mode & 0o777 == 0o660
        producer.send({"n": 2})
        producer.flush(30)
        assert [message.record["n"] for message in hub.messages()] == [1, 2]
        assert hub.stats()["connections_accepted"] == 3  # the connections of the producer, the reload and this call


def test_a_smaller_journal_expires_at_once(tmp_path: Path) -> None:
    """The oldest segments are deleted, the newest stay."""
    configured = Configured(tmp_path, 'journal_size = "64MiB"')
    with configured.hub as hub, Producer(hub.socket) as producer:
        for number in range(24):
            producer.send({"n": number, "x": "x" * (1 << 20)})
        producer.flush(30)
        before = hub.stats()["journal_bytes"]
        configured.write('journal_size = "16MiB"')
        configured.hang_up("config.reloaded")
        assert hub.stats()["journal_bytes"] < before
        assert hub.messages()[-1].record["n"] == 23


def test_a_smaller_journal_takes_smaller_frames(tmp_path: Path) -> None:
    """After the reload no frame has more than an eighth of the journal, on open connections and on new ones."""
    configured = Configured(tmp_path, 'journal_size = "64MiB"')
    two = "x" * (2 << 20)
    with configured.hub as hub, connect(hub.socket, chunk("old", text=two)) as old:
        assert read_acks(old, 1) == ["old"]
        configured.write('journal_size = "8MiB"')
        configured.hang_up("config.reloaded")
        old.sendall(chunk("late", text=two) + chunk("small"))
        assert read_acks(old, 2) == ["late", "small"]
        with connect(hub.socket, chunk("new", text=two)) as new:
            assert read_acks(new, 1) == ["new"]
        assert [(message.tag, message.record.get("reason")) for message in hub.messages()[-3:]] == [
            ("mpsr.loss", f"a frame over the limit of {1 << 20} bytes"),
            ("app", None),
            ("mpsr.loss", f"a frame over the limit of {1 << 20} bytes"),
        ]


@pytest.mark.parametrize("text", ["journal_size", 'journal_size = "1"', 'journal_age = "1d"\ngroup = "no-such-group"'])
def test_an_invalid_file_changes_nothing(text: str, tmp_path: Path) -> None:
    """The error is logged and returned to the caller; the hub continues unchanged."""
    configured = Configured(tmp_path)
    with configured.hub as hub:
        configured.write(text)
        assert configured.hang_up("config.invalid")["action"] == "nothing has changed"
        done = mpsr("call", "reload", "--socket", hub.socket)
        assert (done.returncode, len(done.stderr.splitlines()), b"Error" in done.stderr) == (1, 1, False)
        eventually(lambda: len(configured._said("config.invalid")) == 2, "the second line")
        warnings = [event["event"] for event in hub.log if event["level"] in ("warning", "error")]
        assert warnings == ["config.invalid"] * 2  # one line for each attempt
        configured.write("")
        assert configured.hang_up("config.reloaded")["changed"] == []


def test_who_may_not_send_is_refused(tmp_path: Path) -> None:
    """Its connection is closed, a counter and a loss report it, nothing is kept. Allowed again, it sends once."""
    configured = Configured(tmp_path)
    with configured.hub as hub, Producer(hub.socket) as producer:
        producer.send({"n": 1})
        producer.flush(30)
        configured.write(f'send_deny = ["{ME}"]')
        configured.hang_up("config.reloaded")
        producer.send({"n": 2})
        eventually(lambda: hub.stats()["refused"], "a refusal")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(hub.socket)
            client.sendall(b"a line\n")
            assert client.recv(10) == b""
        loss = eventually(lambda: hub.messages()[1:], "the loss")[0]
        assert (loss.tag, loss.record["reason"]) == ("mpsr.loss", f"refused: uid {os.geteuid()} may not send")
        configured.write("")
        configured.hang_up("config.reloaded")
        producer.flush(30)
        assert [message.record["n"] for message in hub.messages() if message.tag != "mpsr.loss"] == [1, 2]


def test_who_may_not_ask_gets_an_error(tmp_path: Path) -> None:
    """The error comes in the caller's protocol and the command is not executed; every client may ping."""
    configured = Configured(tmp_path, f'read_deny = ["{ME}"]\ncontrol_deny = ["{ME}"]')
    with configured.hub as hub:
        assert call("ping", path=hub.socket) == "pong"
        for method, right in (("stats", "read"), ("reload", "control")):
            with pytest.raises(CommandFailed, match=f"may not ask for '{method}' .see the hub's key {right}_allow"):
                call(method, path=hub.socket)
        configured.write("")
        configured.hang_up("config.reloaded")
        assert hub.stats()["refused"] == 2
        loss = eventually(lambda: hub.messages("mpsr.loss"), "the loss")[0]
        assert loss.record["reason"] == f"refused: uid {os.geteuid()} may not read"


def test_commands_find_the_configured_hub(tmp_path: Path) -> None:
    """Commands take socket and journal from the file."""
    with HubProcess(tmp_path) as hub:
        path = tmp_path / "hub.toml"
        path.write_text(f'socket = "{hub.socket}"\njournal = "{hub.journal}"')
        environ = {**os.environ, "MPSR_CONFIG": str(path)}
        for name in ("MPSR_SOCKET", "MPSR_JOURNAL"):
            environ.pop(name, None)
        for command in (["send", "hello"], ["stats"], ["logs", "--output", "text"], ["verify"]):
            done = subprocess.run([*MPSR, *command], capture_output=True, check=True, env=environ, timeout=60)
            assert command[0] != "logs" or done.stdout == b"hello\n"


def test_a_terminal_that_is_gone_ends_the_hub(tmp_path: Path) -> None:
    """SIGHUP from a closed terminal is a graceful stop, not a reload."""
    ours, theirs = os.openpty()
    command = [*MPSR, "hub", "--socket", str(tmp_path / "s"), "--journal", str(tmp_path / "j")]
    hub = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    try:
        eventually((tmp_path / "s").exists, "the socket")
        assert call("ping", path=str(tmp_path / "s")) == "pong"
        os.close(ours)
        hub.send_signal(signal.SIGHUP)
        assert hub.wait(30) == 0
        assert not (tmp_path / "s").exists()
    finally:
        hub.kill()
        hub.wait()


def test_a_reload_changes_one_source(tmp_path: Path) -> None:
    """Sources are added and removed by a reload, beside one that goes on; the flag and the file both count."""

    def states(hub: HubProcess) -> dict[str, str]:
        return {source["path"]: source["state"] for source in hub.stats()["sources"]}

    (tmp_path / "hub.toml").write_text("")
    flag, added = str(tmp_path / "flag"), str(tmp_path / "added")
    with HubProcess(tmp_path, "--config", str(tmp_path / "hub.toml"), "--fifo", flag) as hub:
        assert states(hub) == {flag: "open"}
        with open(flag, "wb", buffering=0) as pipe:
            pipe.write(b"before\n")
            eventually(lambda: len(hub.messages()) == 1, "the line")
            (tmp_path / "hub.toml").write_text(f'[[sources]]\ntype = "fifo"\npath = "{added}"\ntag = "new"\n')
            assert call("reload", path=hub.socket)["changed"] == ["sources"]
            assert states(hub) == {flag: "open", added: "open"}
            with open(added, "wb", buffering=0) as other:
                other.write(b"through the new one\n")
                eventually(lambda: hub.messages("new"), "the line")
                other.write(b"the last\n")
                (tmp_path / "hub.toml").write_text("")
                assert call("reload", path=hub.socket)["changed"] == ["sources"]
            pipe.write(b"after\n")
            eventually(lambda: len(hub.messages()) == 4, "the line")
        assert states(hub) == {flag: "open"}
        texts = mpsr("stats", "--socket", hub.socket).stdout.decode().splitlines()
        assert texts[-1] == f"fifo {flag}: open, 2 messages, 0 lost"
        assert [message.record["message"] for message in hub.messages("new")] == ["through the new one", "the last"]
        assert hub.stop() == 0


def test_a_source_that_cannot_be_used(tmp_path: Path) -> None:
    """`--check` names the fault; a hub starts without the source, and has it as soon as it can."""
    (tmp_path / "way").write_text("precious")
    way = str(tmp_path / "way")
    options = ["--socket", str(tmp_path / "hub.sock"), "--journal", str(tmp_path / "journal")]
    done = mpsr("hub", "--check", "--fifo", way, *options)
    said = f"mpsr: source {way}: a file that is not a pipe is already there (choose another path)\n"
    assert (done.returncode, done.stderr.decode()) == (1, said)
    with HubProcess(tmp_path, "--fifo", way) as hub:
        (source,) = hub.stats()["sources"]
        wrong = "a file that is not a pipe is already there (choose another path)"
        assert source["state"] == wrong
        row = call("sources", path=hub.socket)["sources"][1]
        assert (row["type"], row["state"], row["last_error"]) == ("fifo", "failed", wrong)
        os.unlink(way)
        eventually(lambda: hub.stats()["sources"][0]["state"] == "open", "another try")
        row = call("sources", path=hub.socket)["sources"][1]
        assert (row["state"], row["messages"], row["bytes"], row["last_error"]) == ("open", 0, 0, wrong)
        assert [event["event"] for event in hub.log if event["level"] == "error"] == ["source.failed"]


def test_a_rate_limit_comes_and_goes_with_a_reload(tmp_path: Path) -> None:
    """Over it, messages are dropped, counted and reported, and acknowledged; without it, all are stored again."""
    rule = '[[limits]]\ntag = "noisy"\nmessages_per_s = 1\nwhen = "drop"\n'
    configured = Configured(tmp_path, rule)
    with configured.hub as hub:
        with Producer(hub.socket, tag="noisy", linger_s=0) as producer:
            for number in range(20):
                producer.send({"n": number})
                producer.flush(timeout=30)
        with Producer(hub.socket, tag="calm") as producer:
            for number in range(20):
                producer.send({"n": number})
            producer.flush(timeout=30)
        dropped = call("stats", path=hub.socket)["limited"]

        def reported() -> list[dict[str, Any]]:
            losses = [each.record for each in hub.messages("mpsr.loss")]
            return losses if sum(record["count"] for record in losses) == dropped else []

        lost = eventually(reported, "the reports")
        assert {(record["reason"], record["tag"]) for record in lost} == {("over the rate limit", "noisy")}
        assert len(hub.messages("noisy")) + dropped == 20
        assert dropped >= 10
        assert len(hub.messages("calm")) == 20
        configured.write("")
        assert configured.hang_up("config.reloaded")["changed"] == ["limits"]
        with Producer(hub.socket, tag="noisy") as producer:
            for number in range(20, 40):
                producer.send({"n": number})
            producer.flush(timeout=30)
        assert len(hub.messages("noisy")) + dropped == 40


def test_events_of_the_service(tmp_path: Path) -> None:
    """A subscriber learns of losses, of a reload and of the stop, in this order."""
    configured = Configured(tmp_path)
    with configured.hub as hub, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(hub.socket)
        client.sendall(
            b'{"jsonrpc": "2.0", "id": 1, "method": "subscribe"}\n{"jsonrpc": "2.0", "id": 2, "method": "ping"}\n'
        )
        lines = client.makefile("rb")
        assert json.loads(lines.readline())["result"] == "pong"
        with socket.socket(socket.AF_UNIX) as broken:
            broken.connect(hub.socket)
            broken.sendall(b"\x93\xa1t\xc1")

        def event() -> Any:
            value = json.loads(lines.readline())["params"]["value"]
            return value["event"], value["data"]

        name, data = event()
        assert (name, data["count"], data["uid"], data["pid"]) == ("loss", 1, os.getuid(), os.getpid())
        assert data["reason"].startswith("malformed Forward frame")
        configured.write('log_level = "debug"')
        configured.hang_up("config.reloaded")
        name, data = event()
        assert (name, data["changed"]) == ("config.reloaded", ["log_level"])
        hub.process.terminate()
        assert event() == ("hub.stopping", {"stop_timeout_s": 10.0})


def test_access_by_method_and_by_tag(tmp_path: Path) -> None:
    """A rule by method takes it away, also from the hub's own user; one by tag leaves messages out. A reload counts."""
    everybody = f'["uid:{os.getuid()}"]'
    configured = Configured(
        tmp_path,
        f'[[access]]\ndeny = {everybody}\nmethods = ["lo*"]\n[[access]]\ndeny = {everybody}\nread = ["secret.*"]\n',
    )
    with configured.hub as hub:
        for tag in ("secret.a", "open"):
            with Producer(hub.socket, tag=tag) as producer:
                producer.send({"tag": tag})
        with pytest.raises(CommandFailed, match=r"may not ask for 'losses'") as caught:
            call("losses", path=hub.socket)
        assert caught.value.code == -32001
        found = call("query", path=hub.socket)["messages"]
        assert {each["tag"] for each in found} - {"mpsr.loss"} == {"open"}
        configured.write("")
        assert configured.hang_up("config.reloaded")["changed"] == ["access"]
        call("losses", path=hub.socket)
        tags = {each["tag"] for each in call("query", path=hub.socket)["messages"]}
        assert tags - {"mpsr.loss"} == {"open", "secret.a"}
