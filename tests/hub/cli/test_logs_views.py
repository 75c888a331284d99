"""`mpsr logs` with context, numbers, a cursor file, collapsed lines: what a user sees, and which options contradict."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hub.cli import main
from hub.journal.segment import list_segments, segment_name
from producers import Producer
from tests.hub.query.test_indexed import needles_in
from tests.support import PATIENCE_S, HubProcess, Running, eventually, mpsr

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub with messages of two tags: every fifth of the first is a failure."""
    with HubProcess(tmp_path_factory.mktemp("hub")) as hub:
        with Producer(hub.socket, spool=False) as producer:
            for number in range(20):
                level = "error" if number % 10 == 5 else "info"
                producer.send({"message": f"m{number}", "level": level, "n": number // 5}, tag="ab"[number % 2])
            producer.flush(PATIENCE_S)
        yield hub


@pytest.fixture
def run(hub: HubProcess, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `mpsr logs` in this process; return its exit code, output and errors."""

    def run(*args: str) -> tuple[int, str, str]:
        place = () if "--socket" in args else ("--journal", hub.journal)
        with pytest.raises(SystemExit) as ended:
            main(["logs", *place, *args])
        assert isinstance(ended.value.code, int)
        return (ended.value.code, *capfd.readouterr())

    return run


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ("-g m5 -C 2", "m3 m4 m5 m6 m7"),
        ("-p error -A 1 -B 0", "m5 m6 -- m15 m16"),
        ("-p error -C 1 -A 0", "m4 m5 -- m14 m15"),
        ("-p error -C 5 -t b", "m1 m3 m5 m7 m9 m11 m13 m15 m17 m19"),
        ("-g m1 -C 9 -n 1", "m10 m11 m12 m13 m14 m15 m16 m17 m18 m19"),
        ("-p error -B 2 -n 1", "m13 m14 m15"),
        ("--where n=3 -B 1 -n 2", "m17 m18 m19"),
        ("-g m1$ -C 1 --after 1", "m1 m2"),
        ("-p error -C 1 --after 6", "m14 m15 m16"),
        ("-g nothing -C 3 -n 2", ""),
        ("-g 5$ -C 0", "m5 m15"),
        ("-v -g [0-46-9]$ -C 1", "m4 m5 m6 -- m14 m15 m16"),
    ],
)
def test_context(run: Run, options: str, shown: str) -> None:
    """Matches with what is around them, in the messages that the other filters select, and breaks as of grep."""
    assert run(*options.split(), "-o", "text") == (0, "".join(f"{line}\n" for line in shown.split()), "")


def test_context_as_json_and_in_colours(run: Run) -> None:
    """JSON has no breaks; in colours, context is grey as a whole."""
    code, output, _ = run("-p", "error", "-B", "1", "-o", "json")
    assert (code, [json.loads(line)["sequence"] for line in output.splitlines()]) == (0, [5, 6, 15, 16])
    code, output, _ = run("-g", "m5", "-n", "1", "-C", "1", "--color", "--fields", "message")
    before, found, after = output.splitlines()
    for line in (before, after):
        assert line.startswith("\x1b[90m")
        assert line.count("\x1b") == 2
    assert found.count("\x1b") > 2


def test_following_with_context(tmp_path: Path) -> None:
    """A follower shows what comes after a match when it arrives, and what came before."""
    with HubProcess(tmp_path) as hub, Producer(hub.socket, tag="a", spool=False) as producer:
        for number in range(4):
            producer.send({"message": f"m{number}", "n": number})
        producer.flush(PATIENCE_S)
        command = ["logs", "--journal", hub.journal, "-f", "-g", "m[259]", "-C", "1", "-o", "text"]
        with Running(*command, stdout=subprocess.PIPE) as follower:
            for number in range(4, 11):  # each is committed alone
                producer.send({"message": f"m{number}", "n": number})
                producer.flush(PATIENCE_S)
            shown = [follower.stdout.readline().decode().rstrip("\n") for _ in range(10)]
            assert shown == ["m1", "m2", "m3", "m4", "m5", "m6", "--", "m8", "m9", "m10"]
            follower.send_signal(signal.SIGINT)
            assert follower.wait(PATIENCE_S) == 0


def test_by(run: Run, hub: HubProcess) -> None:
    """A table of counts; of the last ones with -n; as JSON; the same when a hub is asked."""
    assert run("--by", "tag", "-p", "error") == (0, "COUNT      %  TAG\n    2  100.0  b\n", "")
    assert run("--by", "level", "-n", "5")[1].splitlines()[1:] == ["    4   80.0  info", "    1   20.0  error"]
    _, output, _ = run("--by", "tag", "--by", "n", "-o", "json", "-p", "error")
    rows = [json.loads(line) for line in output.splitlines()]
    assert rows == [{"tag": "b", "n": "1", "count": 1}, {"tag": "b", "n": "3", "count": 1}]
    assert run("--socket", hub.socket, "--by", "n", "-o", "json") == run("--by", "n", "-o", "json")
    assert run("--by", "tag", "-g", "nothing") == (0, "", "")


def test_histogram(run: Run, hub: HubProcess) -> None:
    """The bars together are all messages, by level; the same when a hub is asked."""
    _, output, _ = run("--histogram", "-o", "json")
    rows = [json.loads(line) for line in output.splitlines()]
    assert sum(row["count"] for row in rows) == 20
    assert sum(row["levels"].get("error", 0) for row in rows) == 2
    assert run("--socket", hub.socket, "--histogram") == run("--histogram")
    assert run("--histogram", "-n", "3")[1].split()[1] == "3"


def test_collapse(hub: HubProcess, tmp_path: Path) -> None:
    """Repeated lines are one line with their number, also the newest first."""
    with HubProcess(tmp_path) as own:
        assert mpsr("send", "--socket", own.socket, stdin=b"a\n" * 98 + b"b\n").returncode == 0
        shown = [
            mpsr("logs", "--journal", own.journal, "-o", "text", "--collapse", *args).stdout for args in ((), ("-r",))
        ]
        assert [each.decode().split("\n") for each in shown] == [["a \u00d798", "b", ""], ["b", "a \u00d798", ""]]


def test_cursor_file(run: Run, tmp_path: Path) -> None:
    """Each call goes on after the last line of the one before, context included; one that shows nothing keeps it."""
    file = str(tmp_path / "cursor")
    options = ("--cursor-file", file, "-o", "text")
    assert run(*options, "-g", "5$", "-A", "1", "-n", "1")[1] == "m15\nm16\n"
    assert run(*options, "-g", "m5") == (0, "", "")
    assert run(*options, "-t", "a")[1] == "m18\n"
    assert run(*options)[1] == "m19\n"
    assert run(*options) == (0, "", "")
    Path(file).unlink()
    assert run(*options, "-n", "2")[1] == "m18\nm19\n"
    Path(file).unlink()
    assert run(*options, "--collapse")[1].splitlines()[-1] == "m19"
    assert run(*options, "-o", "json") == (0, "", "")


def test_a_gap_is_shown_once_with_a_cursor_file(run: Run, tmp_path: Path) -> None:
    """The next call goes on after all that is missing, although the gap is one line."""
    folder, file = tmp_path / "journal", tmp_path / "cursor"
    folder.mkdir()
    files = needles_in(folder)
    options = ("--journal", str(folder), "--cursor-file", str(file), "-o", "text", "-g", "needle 1$")
    assert run(*options)[1] == "needle 1\n"
    firsts = list_segments(files)
    for first in firsts[:3]:
        files.remove(segment_name(first))
    assert run(*options)[1].count("expired before it was read") == 1
    assert file.read_text().endswith(f" {firsts[3] - 1}\n")
    assert run(*options) == (0, "", "")


def test_a_follower_with_a_cursor_file(hub: HubProcess, tmp_path: Path) -> None:
    """What a follower has shown is not shown by the next one."""
    command = ["logs", "--journal", hub.journal, "-f", "-n", "all", "-o", "text", "--cursor-file", str(tmp_path / "c")]
    with Running(*command, stdout=subprocess.PIPE) as follower:
        assert [follower.stdout.readline() for _ in range(20)][-1] == b"m19\n"
        eventually((tmp_path / "c").exists)
        follower.send_signal(signal.SIGINT)
        assert follower.wait(PATIENCE_S) == 0
    assert (tmp_path / "c").read_text().endswith(" 20\n")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("-f --by tag", "-f does not end, so --by cannot be used with it"),
        ("-f --histogram", "-f does not end, so --histogram cannot be used with it"),
        ("--count --by tag", "--count and --by show different numbers: give one of them"),
        ("--by tag --histogram", "--by and --histogram show different numbers: give one of them"),
        ("--count -g x -C 1", "--count shows numbers and no lines, so -C cannot be used with it"),
        ("--histogram --collapse", "--histogram shows numbers and no lines, so --collapse cannot be used with it"),
        ("--by tag -r", "--by shows numbers and no lines, so -r cannot be used with it"),
        ("-r -g x -B 1", "-r shows the newest first, and -C what came before and after: give one of them"),
        (
            "-r --cursor-file f",
            "--cursor-file goes on after the newest message, which -r shows first: give one of them",
        ),
        ("--after 3 --cursor-file f", "--after and --cursor-file both say where to begin: give one of them"),
        ("--collapse -g x -A 1", "--collapse and -C cannot be used together"),
        ("--collapse -o jsonl", "--collapse is for people, and -o json for programs"),
        ("--socket -g x -C 1", "-C needs the journal's files, which --socket does not read"),
        ("-C 1 -t a", "-A, -B and -C show the messages around matches, so they need --grep, --where or --level"),
        ("-C -1 -g x", "not a whole number"),
    ],
)
def test_what_contradicts_itself(run: Run, options: str, complaint: str) -> None:
    """It is a usage error that says why; the default of an option counts as not given."""
    code, output, errors = run(*options.split())
    assert (code, output) == (2, "")
    assert complaint in errors
