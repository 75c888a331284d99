"""`mpsr logs` as a user runs it, on the files of a journal: what is selected and shown, and how it follows."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.support import HubProcess, Running, mpsr

pytestmark = pytest.mark.timeout(100, method="signal")  # one that hangs fails, and the run goes on


def json_lines(output: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


def test_logs_follow_waits_for_the_first_hub(tmp_path: Path) -> None:
    """`logs -f` before any hub has run waits for the journal, like `tail -F`."""
    command = ["logs", "--journal", str(tmp_path / "journal"), "-f", "--output", "text"]
    following = Running(*command, stdout=subprocess.PIPE)
    with HubProcess(tmp_path) as hub:
        mpsr("send", "--socket", hub.socket, "first")
        assert following.stdout.readline() == b"first\n"
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=30)
    assert following.returncode == 0


def test_logs_filters_and_formats(hub: HubProcess) -> None:
    """Tag, grep, after and -n select; json has the promised keys; text is the text alone."""
    mpsr("send", "--socket", hub.socket, "--tag", "app.web", "GET /index", "GET /missing: 404")
    mpsr("send", "--socket", hub.socket, "--tag", "app.jobs", "done", "failed: 404")

    def logs(*args: str) -> bytes:
        done = mpsr("logs", "--journal", hub.journal, *args)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout

    assert logs("--output", "text") == b"GET /index\nGET /missing: 404\ndone\nfailed: 404\n"
    assert logs("--output", "text", "--tag", "app.w*", "--tag", "other") == b"GET /index\nGET /missing: 404\n"
    assert logs("--output", "text", "--grep", "4.4$", "-n", "1") == b"failed: 404\n"
    assert logs("--output", "text", "--after", "3") == b"failed: 404\n"
    assert logs("--output", "text", "-n", "0") == b""
    first = json_lines(logs("--output", "json"))[0]
    keys = ["sequence", "time", "received", "tag", "pid", "uid", "gid", "comm", "record"]
    assert list(first) == keys
    assert (first["sequence"], first["uid"]) == (1, os.getuid())
    assert len(str(first["time"])) == len("2026-11-20T05:40:30.212593840Z")
    assert b"app.jobs" in logs()


def test_logs_finds_by_fields_level_writer_and_time(hub: HubProcess) -> None:
    """Conditions, level, pid, since and until filter; an invalid one is a usage error."""
    mpsr("send", "--socket", hub.socket, "--json", stdin=b'{"n": 1, "level": "info"}\n{"n": 2, "level": "error"}\n')
    mpsr("send", "--socket", hub.socket, "--json", stdin=b'{"n": 3, "level": "critical", "a": {"b": "x"}}\n')

    def numbers(*args: str) -> list[object]:
        done = mpsr("logs", "--journal", hub.journal, "--output", "json", *args)
        assert (done.returncode, done.stderr) == (0, b"")
        return [line["record"]["n"] for line in json_lines(done.stdout)]  # type: ignore[index]

    assert numbers("--where", "n>1") == numbers("--where", "n >= 2") == [2, 3]
    assert numbers("--where", "n>1", "--where", "a.b=x") == [3]
    assert numbers("--level", "error") == [2, 3]
    assert numbers("--since", "1h", "--until", "now") == [1, 2, 3]
    assert numbers("--until", "1h") == []
    assert numbers("--since", "2099-01-01") == []
    pid = str(hub.messages()[0].peer.pid)
    assert numbers("--pid", pid) == [1, 2]
    assert numbers("--where", "n!=2", "-n", "1") == [3]
    assert numbers("-p", "err", "-S", "yesterday", "-u", "*", "-t", "!other") == [2, 3]
    assert numbers("-r") == [3, 2, 1]
    assert numbers("-r", "--tail", "2") == [3, 2]
    assert numbers("--uid", str(os.getuid()), "--comm", "[pm]*", "--no-pager") == [1, 2, 3]
    assert numbers("--uid", "4242") == []
    assert numbers("-g", "X", "-i") == [3]
    assert mpsr("logs", "--journal", hub.journal, "--count", "--level", "error").stdout == b"2\n"
    line = json_lines(mpsr("logs", "--journal", hub.journal, "-o", "json", "--fields", "n, a.b").stdout)[-1]
    assert line["record"] == {"n": 3, "a.b": "x"}
    for wrong in (("--where", "n"), ("--level", "loud"), ("--since", "someday"), ("-f", "-r"), ("-f", "--count")):
        done = mpsr("logs", "--journal", hub.journal, *wrong)
        assert (done.returncode, b"Traceback" in done.stderr) == (2, False)


def test_logs_takes_what_one_knows(hub: HubProcess) -> None:
    """Levels of syslog, names of users, `all`, names of outputs, bare --color, and what needs no option anyway."""
    for level in ("info", "err", "crit"):
        assert mpsr("send", "--socket", hub.socket, "-p", level, f"m {level}").returncode == 0

    def shown(*args: str) -> list[str]:
        done = mpsr("logs", "--journal", hub.journal, *args)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode().splitlines()

    plain = shown("--no-color", "-a", "-q", "--no-hostname", "--no-pager")
    assert plain == shown() == shown("-n", "all") == shown("--tail", "ALL", "-o", "short") == shown("--color=Never")
    assert len(plain) == 3
    assert shown("-o", "CAT") == shown("-o", "raw") == ["m info", "m err", "m crit"]
    assert shown("-o", "jsonl") == shown("-o", "JSON") == shown("-o", "json")
    assert shown("-o", "text", "-p", "3") == shown("-o", "text", "-p", "ERR") == ["m err", "m crit"]
    assert shown("-o", "text", "-p", "2") == ["m crit"]
    assert shown("-o", "text", "--uid", pwd.getpwuid(os.getuid()).pw_name) == ["m info", "m err", "m crit"]
    assert shown("-o", "text", "-v", "-g", "err|info") == ["m crit"]
    assert shown("-o", "text", "-v", "-i", "-g", "M ERR") == ["m info", "m crit"]
    assert shown("--color") == shown("--color", "always") != plain
    for args, number in (((), "3"), (("-n", "2"), "2"), (("-n", "9"), "3"), (("-n", "all"), "3"), (("-n", "0"), "0")):
        assert shown("--count", *args) == [number]


def test_nothing_found(hub: HubProcess) -> None:
    """On a terminal, standard error says that no message matches, and what --where may have meant; else nothing."""
    assert mpsr("send", "--socket", hub.socket, "x").returncode == 0
    hint = "mpsr: no message matches (--where tag: a field of the record; --tag selects messages)"
    for args, said in (
        (["--where", "tag=send"], hint),
        (["-r", "-t", "y"], "mpsr: no message matches"),
        (["-n", "5", "-t", "y"], "mpsr: no message matches"),
        (["-n", "0"], ""),
        (["-n", "1"], ""),
    ):
        ours, theirs = os.openpty()
        with Running("logs", "--journal", hub.journal, *args, stdout=subprocess.PIPE, stderr=theirs) as running:
            shown, _ = running.communicate()
        assert running.wait() == 0
        os.write(theirs, b".")  # so that there is something to read
        assert os.read(ours, 1000).decode().removesuffix(".").rstrip() == said
        assert bool(shown) == (args == ["-n", "1"])
        os.close(ours)
        os.close(theirs)
    done = mpsr("logs", "--journal", hub.journal, "--where", "tag=send")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("has_journal", [True, False])
def test_a_follower_ends_with_its_reader(tmp_path: Path, has_journal: bool) -> None:
    """`logs -f | head -1` ends as soon as the reader of its output has, and not with the next message."""
    with HubProcess(tmp_path) as hub:
        assert mpsr("send", "--socket", hub.socket, "one").returncode == 0
        journal = hub.journal if has_journal else str(tmp_path / "none")
        command = ["logs", "-f", "--journal", journal]
        with Running(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as following:
            if has_journal:
                assert following.stdout.readline().endswith(b"one\n")
            else:
                assert b"waiting for a hub" in following.stderr.readline()
            following.stdout.close()
            assert following.wait(30) == 0
            assert following.stderr.read() == b""


def test_follow_everything(hub: HubProcess) -> None:
    """`logs -f -n all` begins with the first message of the journal, and continues."""
    mpsr("send", "--socket", hub.socket, *(str(n) for n in range(30)))
    command = ["logs", "-f", "-n", "all", "-o", "text", "--journal", hub.journal]
    with Running(*command, stdout=subprocess.PIPE) as following:
        assert [following.stdout.readline() for _ in range(30)] == [b"%d\n" % n for n in range(30)]
        mpsr("send", "--socket", hub.socket, "last")
        assert following.stdout.readline() == b"last\n"
        following.stdout.close()
        assert following.wait(30) == 0


def test_logs_reads_when_no_hub_runs(hub: HubProcess) -> None:
    """The journal of a stopped or killed hub is readable."""
    mpsr("send", "--socket", hub.socket, "kept")
    hub.kill()
    assert mpsr("logs", "--journal", hub.journal, "--output", "text").stdout == b"kept\n"


def test_logs_follow_begins_when_it_was_started(hub: HubProcess) -> None:
    """`-f` begins with the last 10, and `-f -n 0` shows what arrives while the interpreter starts."""
    mpsr("send", "--socket", hub.socket, stdin=b"".join(b"old %d\n" % number for number in range(20)))
    for args, before in (("-n 0", 0), ("", 10), ("-n 3", 3)):
        time.sleep(0.05)  # the kernel counts the starts of processes in hundredths: what is older is old for sure
        command = ["logs", "--journal", hub.journal, "-f", "-o", "text", *args.split()]
        with Running(*command, stdout=subprocess.PIPE, is_new=True) as process:
            with socket.socket(socket.AF_UNIX) as client:  # at once: the follower has not begun to read
                client.connect(hub.socket)
                client.sendall(b"new\n")
            shown = [process.stdout.readline() for _ in range(before + 1)]
            process.terminate()
        assert (shown[-1], len(shown)) == (b"new\n", before + 1)
        assert before == 0 or shown[0].startswith(b"old")


def test_logs_follow_skips_nothing(hub: HubProcess) -> None:
    """`logs -f` shows old and new messages, over a kill and restart of the hub; Ctrl-C ends it with 0."""
    mpsr("send", "--socket", hub.socket, "0")
    command = ["logs", "--journal", hub.journal, "-f", "--output", "text"]
    following = Running(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    seen = [int(following.stdout.readline())]
    for number in range(1, 5):
        mpsr("send", "--socket", hub.socket, str(number))
        seen.append(int(following.stdout.readline()))
        hub.kill()
        hub.start()
    following.send_signal(signal.SIGINT)
    rest, complaints = following.communicate(timeout=30)
    assert (seen, rest, complaints, following.returncode) == ([0, 1, 2, 3, 4], b"", b"", 0)


def test_a_closed_pipe_ends_logs_quietly(hub: HubProcess) -> None:
    """`mpsr logs | head -1` reports no error about the pipe."""
    mpsr("send", "--socket", hub.socket, stdin=b"line\n" * 200_000)
    reading = Running("logs", "--journal", hub.journal, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert reading.stdout.readline()
    reading.stdout.close()
    assert (reading.wait(30), reading.stderr.read()) == (0, b"")
    reading.stderr.close()


def test_logs_without_a_journal_says_so(tmp_path: Path) -> None:
    """A missing journal: one line, exit code 1; an invalid regular expression: exit code 2."""
    done = mpsr("logs", "--journal", str(tmp_path / "absent"))
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"there is no journal here" in done.stderr
    assert mpsr("logs", "--journal", str(tmp_path), "--grep", "(").returncode == 2
