"""`mpsr spawn` as a user runs it: real children, real signals, a real hub."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hub.message import Message
from tests import support
from tests.support import PATIENCE_S, HubProcess, Running, eventually, mpsr, read_messages

LINUX = sys.platform.startswith("linux")


class Spawned:
    """A running `mpsr spawn`, whose output goes to a file."""

    def __init__(self, folder: Path, *args: str, stdin: bytes = b"") -> None:
        self.shown = folder / "shown"
        with self.shown.open("wb") as shown:
            self.process = Running("spawn", *args, stdin=subprocess.PIPE, stdout=shown, stderr=shown)
        self.process.stdin.write(stdin)
        self.process.stdin.close()

    def says(self, text: str) -> bool:
        return text.encode() in self.shown.read_bytes()

    def until(self, text: str) -> None:
        eventually(lambda: self.says(text), text)

    def pid_of(self, name: str) -> int:
        """Return the process id of a child's last life."""
        self.until(f"{name} started")
        return int(self.shown.read_text().rpartition(f"{name} started (pid ")[2].partition(")")[0])

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)

    def __enter__(self) -> Spawned:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def run(hub: HubProcess, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return mpsr("spawn", "--socket", hub.socket, *args, stdin=stdin)


def sh(script: str) -> list[str]:
    return ["--", "sh", "-c", script]


def texts(messages: list[Message]) -> list[str]:
    """Return the text or the event of each message."""
    return [str(message.record.get("message", message.record.get("event"))) for message in messages]


def is_alive(pid: int) -> bool:
    """Return whether the process exists and is not a zombie."""
    try:
        return state_of(pid) not in ("Z", "X")
    except FileNotFoundError:
        return False


def state_of(pid: int) -> str:
    """Return the state of a process (proc(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def children_of(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


needs_proc = pytest.mark.skipif(not LINUX, reason="looks into /proc")


def test_a_child_is_told_from_its_start_to_its_end(hub: HubProcess) -> None:
    """Start, both streams and exit code are messages under NAME.N, in order, with stream and message."""
    done = run(hub, "--tag", "w", "-n", "2", *sh("echo out $MPSR_TAG $MPSR_INDEX $MPSR_SOCKET; echo err >&2; exit 3"))
    assert done.returncode == 3
    for index in (1, 2):
        messages = hub.messages(f"w.{index}")
        assert texts(messages) == [
            "process.started", f"out w.{index} {index} {hub.socket}", "err", "process.exited",
        ]  # fmt: skip
        assert [message.record.get("stream") for message in messages] == [None, "stdout", "stderr", None]
        assert messages[-1].record["exit_code"] == 3
        assert messages[0].record["pid"] == messages[-1].record["pid"]
        assert f"w.{index}  | ".encode() in done.stdout or f"w.{index} | ".encode() in done.stdout


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("nothing-there", 127)],
)
def test_the_exit_code_is_the_childs(hub: HubProcess, script: str, code: int) -> None:
    """An exit code is passed on; a signal becomes 128 plus its number."""
    assert run(hub, *sh(script)).returncode == code


def test_the_exit_code_is_the_first_failing_childs(hub: HubProcess, tmp_path: Path) -> None:
    """Successful children and later failures do not count; with --any-exit ignore all run to their end."""
    script = f"""case $MPSR_INDEX in
      1) exit 0;;
      2) touch {tmp_path}/failed; exit 5;;
      3) until [ -e {tmp_path}/failed ]; do sleep 0.01; done; sleep 0.2; exit 6;; esac"""
    assert run(hub, "-n", "3", *sh(script)).returncode == 5


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("no-such-command", 127, "command not found: 'no-such-command'"),
        ("./none", 127, "command not found: './none'"),
        ("/etc/passwd", 126, "cannot run '/etc/passwd': it is not executable (chmod +x /etc/passwd)"),
        ("/etc", 126, "cannot run '/etc': it is a folder"),
    ],
)
def test_a_command_that_cannot_be_run(hub: HubProcess, command: str, code: int, said: str) -> None:
    """One line and the exit code of a shell, before anything is started."""
    done = run(hub, "--tag", "w", "--", command)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (code, b"", f"mpsr: {said}\n")
    assert hub.messages("w.1") == []


def test_a_script_without_its_interpreter(hub: HubProcess, tmp_path: Path) -> None:
    """A script that is there, and whose interpreter is not, is reported so."""
    script = tmp_path / "script"
    script.write_text("#!/no/such/python\n")
    script.chmod(0o755)
    done = run(hub, "--tag", "w", "--", str(script))
    assert done.returncode == 127
    (text,) = texts(hub.messages("w.1"))[1:-1]
    assert text == f"mpsr: cannot run {script}: its interpreter (the first line) does not exist"


@needs_proc
def test_a_killed_child_is_restarted_and_told(hub: HubProcess, tmp_path: Path) -> None:
    """SIGKILL of a child with --restart on-failure: the signal is a message, the child restarts, exit code 0."""
    script = f"[ -e {tmp_path}/second ] && echo life && exit 0; touch {tmp_path}/second; echo life; sleep 600"
    with Spawned(tmp_path, "--socket", hub.socket, "--tag", "w", "--restart", "on-failure", *sh(script)) as spawned:
        spawned.until("| life")
        os.kill(spawned.pid_of("w.1"), signal.SIGKILL)
        assert spawned.wait() == 0
    messages = hub.messages("w.1")
    assert texts(messages) == [
        "process.started", "life", "process.exited", "process.restarting", "process.started", "life", "process.exited",
    ]  # fmt: skip
    assert (messages[2].record["signal"], messages[-1].record["exit_code"]) == ("SIGKILL", 0)


@needs_proc
def test_children_do_not_outlive_a_killed_supervisor(hub: HubProcess, tmp_path: Path) -> None:
    """After SIGKILL of the supervisor no direct child is left, and the output it had read is stored."""
    with Spawned(tmp_path, "--socket", hub.socket, "-n", "3", "--tag", "w", *sh("echo up; exec sleep 600")) as spawned:
        pids = [spawned.pid_of(f"w.{index}") for index in (1, 2, 3)]
        eventually(lambda: all("up" in texts(hub.messages(f"w.{index}")) for index in (1, 2, 3)), "all are up")
        spawned.process.kill()
        spawned.wait()
        eventually(lambda: not any(map(is_alive, pids)), "the children are gone")


@needs_proc
def test_a_killed_hub_costs_nothing(hub: HubProcess, tmp_path: Path) -> None:
    """After SIGKILL of the hub while children write, every line is stored once, in order."""
    script = f"i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); [ $i != 10000 ] || touch {tmp_path}/half; done"
    with Spawned(tmp_path, "--socket", hub.socket, "-q", "--tag", "w", "-n", "2", *sh(script)) as spawned:
        eventually((tmp_path / "half").exists, "they are half way")
        hub.kill()
        hub.start()
        assert spawned.wait() == 0
    for index in (1, 2):
        messages = hub.messages(f"w.{index}")
        assert texts(messages) == ["process.started", *map(str, range(20000)), "process.exited"]


@needs_proc
def test_a_stubborn_child_is_killed_with_its_group(hub: HubProcess, tmp_path: Path) -> None:
    """SIGTERM, then SIGKILL after --stop-timeout, to the whole group; exit code 0, because a stop was requested."""
    script = "trap '' TERM; sleep 600 & echo $! ; while :; do sleep 600; done"
    with Spawned(tmp_path, "--socket", hub.socket, "--tag", "w", "--stop-timeout", "0.3", *sh(script)) as spawned:
        leader = spawned.pid_of("w.1")
        pids = eventually(lambda: [leader, *children_of(leader)] if len(children_of(leader)) == 2 else None, "all run")
        spawned.process.terminate()
        assert spawned.wait() == 0
        eventually(lambda: not any(map(is_alive, pids)), "nobody is left")
    assert texts(hub.messages("w.1"))[-2:] == ["process.killed", "process.exited"]


@needs_proc
def test_others_of_a_group_have_their_time_to_end(hub: HubProcess, tmp_path: Path) -> None:
    """A shell that dies of SIGTERM at once does not cost its children their graceful end."""
    program = (
        f"trap 'sleep 0.3; echo graceful; touch {tmp_path}/graceful; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    )
    with Spawned(tmp_path, "--socket", hub.socket, "--tag", "w", *sh(f"sh -c {shlex.quote(program)}; true")) as spawned:
        spawned.until("| up")
        spawned.process.terminate()
        assert spawned.wait() == 0
    assert (tmp_path / "graceful").exists()
    assert "graceful" in texts(hub.messages("w.1"))


DAEMON = """trap 'sleep 0.2; echo graceful; exit 0' TERM; echo daemon $$; while :; do sleep 0.05; done"""
STUBBORN = """trap '' TERM; echo daemon $$; while :; do sleep 0.05; done"""


def daemons(hub: HubProcess) -> list[int]:
    found = [text.split() for text in texts(hub.messages("w.1"))]
    return [int(words[1]) for words in found if words[:1] == ["daemon"]]


@needs_proc
def test_processes_that_left_the_group_are_ended_at_a_stop(hub: HubProcess, tmp_path: Path) -> None:
    """After the children daemons get SIGTERM and time to end, those of daemons too; their last words arrive."""
    daemon = f"setsid sh -c {shlex.quote(DAEMON)} & sleep 600"
    script = f"setsid sh -c {shlex.quote(daemon)} & {daemon}"
    with Spawned(tmp_path, "--socket", hub.socket, "--tag", "w", *sh(script)) as spawned:
        pids = eventually(lambda: found if len(found := daemons(hub)) == 2 else None, "both run")
        spawned.process.terminate()
        assert spawned.wait() == 0
        assert not any(map(is_alive, pids))
    assert texts(hub.messages("w.1")).count("graceful") == 2


@needs_proc
def test_a_stubborn_daemon_is_killed(hub: HubProcess, tmp_path: Path) -> None:
    """When its parent ends by itself a daemon is ended as well: SIGKILL follows after --stop-timeout."""
    script = (
        f"setsid sh -c {shlex.quote(STUBBORN)} & until [ -e {tmp_path}/go ]; do sleep 0.01; done; printf half; exit 4"
    )
    with Spawned(tmp_path, "--socket", hub.socket, "--tag", "w", "--stop-timeout", "0.3", *sh(script)) as spawned:
        (pid,) = eventually(lambda: daemons(hub), "it runs")
        (tmp_path / "go").touch()
        assert spawned.wait() == 4
        assert not is_alive(pid)
    assert texts(hub.messages("w.1"))[-2:] == ["half", "process.exited"], "its half line comes before its end"


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_kills(hub: HubProcess, tmp_path: Path, number: signal.Signals) -> None:
    """Children and daemons get SIGKILL at once; it is reported as such, and the exit code is 128 plus the number."""
    script = f"setsid sh -c {shlex.quote(STUBBORN)} & trap '' TERM; while :; do sleep 0.05; done"
    with Spawned(tmp_path, "--socket", hub.socket, "--tag", "w", "--stop-timeout", "600", *sh(script)) as spawned:
        pids = [*eventually(lambda: daemons(hub), "it runs"), spawned.pid_of("w.1")]
        spawned.process.send_signal(signal.SIGINT)
        spawned.until("stopping; a second Ctrl-C kills")
        spawned.process.send_signal(number)
        assert spawned.wait() == 128 + number
        assert not any(map(is_alive, pids))
        assert spawned.says("w.1 is killed, because a stop was requested twice")
    assert [one.record["reason"] for one in hub.messages("w.1") if one.record.get("event") == "process.killed"] == [
        "second stop"
    ]


@needs_proc
def test_no_zombies(hub: HubProcess, tmp_path: Path) -> None:
    """A child that has ended is reaped while others run."""
    script = "[ $MPSR_INDEX = 3 ] && exec sleep 600; exit 0"
    with Spawned(tmp_path, "--socket", hub.socket, "--tag", "w", "-n", "3", *sh(script)) as spawned:
        spawned.until("w.1 ended")
        spawned.until("w.2 ended")
        assert children_of(spawned.process.pid) == [spawned.pid_of("w.3")]
        spawned.process.send_signal(signal.SIGINT)
        assert spawned.wait() == 0


# The supervisor continues only when its first child has ended, as on a busy machine.
LATE = """
import os
from producers.spawn import processes
start = processes.start
def start_late(*args, env, **options):
    process = start(*args, env=env, **options)
    if env["MPSR_INDEX"] == "1":
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process
processes.start = start_late
from hub.cli import main; main()
"""


@needs_proc
@pytest.mark.parametrize("program", [support.MPSR, (sys.executable, "-c", LATE)], ids=["in time", "late"])
def test_no_zombies_of_orphans(
    hub: HubProcess, tmp_path: Path, program: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orphans of a child, early or late, also outside its group, are reaped when they end."""
    monkeypatch.setattr(support, "MPSR", program)
    script = f"setsid sh -c 'until [ -e {tmp_path}/go ]; do sleep 0.01; done' & echo $!; exit 0"
    with Spawned(
        tmp_path,
        "--socket",
        hub.socket,
        "--tag",
        "w",
        "-n",
        "2",
        *sh(f"[ $MPSR_INDEX = 2 ] && exec sleep 600; {script}"),
    ) as spawned:
        spawned.until("w.1 ended")
        orphans = set(children_of(spawned.process.pid)) - {spawned.pid_of("w.2")}
        assert len(orphans) == 1
        (tmp_path / "go").touch()
        (orphan,) = orphans
        eventually(lambda: not Path(f"/proc/{orphan}").exists(), "it is waited for")
        spawned.process.terminate()
        assert spawned.wait() == 0


def test_signals_are_passed_on(hub: HubProcess, tmp_path: Path) -> None:
    """SIGHUP, SIGUSR1 and SIGUSR2 reach the child, which decides what follows."""
    script = """for s in HUP USR1; do trap "echo got $s" $s; done; trap 'echo got USR2; exit 9' USR2
      echo up; while :; do sleep 0.05; done"""
    with Spawned(tmp_path, "--socket", hub.socket, "--tag", "w", *sh(script)) as spawned:
        spawned.until("| up")
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            spawned.process.send_signal(number)
            spawned.until(f"| got {number.name.removeprefix('SIG')}")
        assert spawned.wait() == 9


def test_our_own_lines_do_not_steer_the_terminal(hub: HubProcess) -> None:
    """A name is shown escaped; a child's output is not changed."""
    done = run(hub, "--tag", "\x1b[2J\u202e", *sh(r"printf '\033[1mbold\n'"))
    assert done.returncode == 0
    ours, said = done.stdout.decode().replace("\x1b[1mbold", "BOLD"), done.stdout
    assert ours.replace("\n", "").isprintable()
    assert said.count(rb"\x1b[2J\u202e.1") == 3
    assert b"\x1b[1mbold\n" in said


def test_standard_input_goes_to_one_child(hub: HubProcess) -> None:
    """The child named by --stdin gets standard input; the others have /dev/null."""
    done = run(hub, "--tag", "w", "-n", "2", "--stdin", "w.2", *sh("cat; echo end"), stdin=b"ours\n")
    assert done.returncode == 0
    assert texts(hub.messages("w.1"))[1:-1] == ["end"]
    assert texts(hub.messages("w.2"))[1:-1] == ["ours", "end"]
    assert run(hub, "--tag", "w", "--stdin", "x", *sh("cat")).returncode == 2


def test_a_long_line_is_not_split_at_16_kib(hub: HubProcess) -> None:
    """20 MiB without a line feed arrive in marked parts of --line-max that join to the whole; 300 KiB are one."""
    script = "import sys; sys.stdout.write('a' * (20 << 20) + '\\n' + 'b' * 300_000 + '\\n')"
    assert run(hub, "-q", "--tag", "w", "--", sys.executable, "-c", script).returncode == 0
    *parts, last = hub.messages("w.1")[1:-1]
    assert [part.record.get("continued") for part in parts] == [None, *[True] * 19]
    assert "".join(part.record["message"] for part in parts) == "a" * (20 << 20)
    assert last.record == {"stream": "stdout", "message": "b" * 300_000}


def test_foreign_bytes_are_kept(hub: HubProcess) -> None:
    """Bytes that are not UTF-8 are in the journal unchanged."""
    assert run(hub, "-q", "--tag", "w", *sh(r"printf '\377\376\000\n'")).returncode == 0
    assert b"\xff\xfe\x00" in b"".join(path.read_bytes() for path in Path(hub.journal).glob("*.seg"))
    assert texts(hub.messages("w.1"))[1] == "\ufffd\ufffd\x00"


def test_a_traceback_is_one_message_while_the_child_lives(hub: HubProcess, tmp_path: Path) -> None:
    """The traceback is joined, and sent although no line follows it."""
    script = "import traceback, time\ntry: 1 / 0\nexcept Exception: traceback.print_exc()\ntime.sleep(600)"
    with Spawned(tmp_path, "--socket", hub.socket, "--tag", "w", "--", sys.executable, "-c", script) as spawned:
        messages = eventually(lambda: hub.messages("w.1")[1:], "the traceback is there")
        assert len(messages) == 1
        lines = messages[0].record["message"].splitlines()
        assert (lines[0], lines[-1]) == ("Traceback (most recent call last):", "ZeroDivisionError: division by zero")
        spawned.process.terminate()
        assert spawned.wait() == 0


def test_json_lines_are_records(hub: HubProcess) -> None:
    """A JSON object becomes the record, with the stream added."""
    assert run(hub, "--tag", "w", *sh("""echo '{"level": "warning", "n": 1}'""")).returncode == 0
    assert hub.messages("w.1")[1].record == {"stream": "stdout", "level": "warning", "n": 1}


@needs_proc
@pytest.mark.parametrize("order", ["oe", "eo"])
@pytest.mark.parametrize("end", ["exec sleep 600", "exit 0"])
def test_the_stream_that_was_written_first_comes_first(hub: HubProcess, tmp_path: Path, order: str, end: str) -> None:
    """Order is kept even for output written while the supervisor was stopped, or by a child that has ended."""
    say = {"o": "echo out", "e": "echo err >&2"}
    said = "; ".join(say[one] for one in order)
    script = f"echo up; until [ -e {tmp_path}/go ]; do sleep 0.01; done; {said}; touch {tmp_path}/done; {end}"
    with Spawned(tmp_path, "--socket", hub.socket, "--tag", "w", *sh(script)) as spawned:
        spawned.until("| up")
        eventually(lambda: state_of(spawned.process.pid) == "S", "it has worked that off, and waits")
        spawned.process.send_signal(signal.SIGSTOP)
        (tmp_path / "go").touch()
        eventually((tmp_path / "done").exists, "both are written")
        spawned.process.send_signal(signal.SIGCONT)
        spawned.until("| out")
        spawned.until("| err")
        if end != "exit 0":
            spawned.process.terminate()
        assert spawned.wait() == 0
    messages = hub.messages("w.1")[2:4]
    assert [text[0] for text in texts(messages)] == list(order)


def test_a_procfile(hub: HubProcess, tmp_path: Path) -> None:
    """Names, counts, the .env file beside it, PORT and the folder apply; the end of one process stops the rest."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "Procfile").write_text(
        "# two\nweb: until [ -e up1 ] && [ -e up2 ]; do sleep 0.01; done; echo $NAME $PORT $PWD; exit 3\n"
        "work: echo $PORT; touch up$MPSR_INDEX; exec sleep 600\n"
    )
    (folder / ".env").write_text("NAME='a b'\nPORT=6000\n")
    done = run(hub, "--procfile", str(folder / "Procfile"), "work=2")
    assert done.returncode == 3
    assert texts(hub.messages("web.1"))[1] == f"a b 6000 {folder}"
    assert [texts(hub.messages(f"work.{index}"))[1] for index in (1, 2)] == ["6100", "6101"]
    assert hub.messages("work.2")[-1].record["signal"] == "SIGTERM"


def test_wrong_usage_says_what_is_right(hub: HubProcess, tmp_path: Path) -> None:
    """Wrong usage exits with code 2 and names one reason."""
    procfile = tmp_path / "P"
    procfile.write_text("web: true\n")
    for args, said in [
        (["--procfile", str(procfile), "x=1"], b"web"),
        (["--procfile", str(procfile), "web=0"], b"must be from 1 to"),
        (["--procfile", str(tmp_path / "none")], b"No such file"),
        (["--procfile", str(procfile), "-n", "2"], b"NAME=N"),
        (["--line-max", "1", "--", "true"], b"--line-max"),
        (["--env", str(tmp_path / "none"), "--", "true"], b"No such file"),
    ]:
        done = run(hub, *args)
        assert (done.returncode, said in done.stderr) == (2, True), (args, done.stderr)


def test_with_a_hub_of_its_own(tmp_path: Path) -> None:
    """--hub starts a hub, stores the output, and stops the hub last."""
    socket, journal = str(tmp_path / "own.sock"), str(tmp_path / "own")
    done = mpsr("spawn", "--hub", "--socket", socket, "--journal", journal, "--tag", "w", *sh("echo said"))
    assert done.returncode == 0, done.stderr
    assert texts(read_messages(journal, "w.1")) == ["process.started", "said", "process.exited"]
    assert not os.path.exists(socket)


@needs_proc
def test_its_own_hub_is_restarted(tmp_path: Path) -> None:
    """After SIGKILL the hub of --hub is restarted, and every line is stored once."""
    socket, journal = str(tmp_path / "own.sock"), str(tmp_path / "own")
    script = f"echo before; until [ -e {tmp_path}/go ]; do sleep 0.01; done; echo after"
    with Spawned(tmp_path, "--hub", "--socket", socket, "--journal", journal, "--tag", "w", *sh(script)) as spawned:
        spawned.until("| before")
        os.kill(spawned.pid_of("hub"), signal.SIGKILL)
        spawned.until("hub starts again")
        (tmp_path / "go").touch()
        assert spawned.wait() == 0
    assert texts(read_messages(journal, "w.1")) == ["process.started", "before", "after", "process.exited"]


@needs_proc
def test_its_own_hub_ends_with_a_killed_supervisor(tmp_path: Path) -> None:
    """SIGKILL of the supervisor stops the hub of --hub gracefully."""
    socket, journal = str(tmp_path / "own.sock"), str(tmp_path / "own")
    with Spawned(tmp_path, "--hub", "--socket", socket, "--journal", journal, *sh("exec sleep 600")) as spawned:
        hub, child = spawned.pid_of("hub"), spawned.pid_of("sh.1")
        spawned.process.kill()
        spawned.wait()
        eventually(lambda: not is_alive(hub) and not is_alive(child), "both have ended")
    assert not os.path.exists(socket)


def test_a_hub_that_is_there_already_is_not_replaced(hub: HubProcess, tmp_path: Path) -> None:
    """--hub beside a running hub fails with an error and its remedy, and starts nothing."""
    done = run(hub, "--hub", "--journal", str(tmp_path / "other"), "--tag", "w", *sh("echo said"))
    assert (done.returncode, done.stdout) == (1, b"")
    remedy = f"another one listens at {hub.socket} (leave out --hub to use it)"
    assert done.stderr.decode() == f"mpsr: the hub did not start: {remedy}\n"
    assert hub.messages("w.1") == []
    assert not (tmp_path / "other").exists()


def test_a_hub_that_cannot_start_is_not_started_again(hub: HubProcess, tmp_path: Path) -> None:
    """The hub's own error is shown, here for a journal that is in use; no restart is announced, no child started."""
    done = mpsr("spawn", "--hub", "--socket", str(tmp_path / "own.sock"), "--journal", hub.journal, *sh("echo said"))
    assert done.returncode == 1
    shown = [line.partition(b" mpsr ")[2].lstrip(b" |").partition(b" (")[0] for line in done.stdout.splitlines()]
    assert shown == [b"hub started", b"hub ended"]
    first, second = done.stderr.decode().splitlines()
    assert f"journal {hub.journal}: process {hub.process.pid} is already writing to it" in first
    assert second == "mpsr: the hub did not start: it ended (see above)"


def test_without_a_hub_it_is_said(tmp_path: Path) -> None:
    """The children run; after a second one line says so, and one at the end counts what was lost: a failure."""
    socket = str(tmp_path / "none.sock")
    with Spawned(
        tmp_path, "--socket", socket, "--tag", "w", *sh(f"until [ -e {tmp_path}/go ]; do sleep 0.01; done")
    ) as (spawned):
        spawned.until("the output waits for one, in memory only (start `mpsr hub`, or add --hub)")
        (tmp_path / "go").touch()
        assert spawned.wait() == 1
    lines = [line for line in spawned.shown.read_text().splitlines() if line.startswith("mpsr: ")]
    lost = f"mpsr: 2 messages are not acknowledged (no hub at {socket}): start `mpsr hub`, or add --hub"
    assert (len(lines), lines[-1]) == (2, lost)


# A wait for a hub at the exit is longer than the test, and a slow machine does not add the line that the output waits.
PATIENT = """
import hub.cli.reports
hub.cli.reports.FLUSH_TIMEOUT_S = hub.cli.reports.NO_HUB_S = 600.0
from hub.cli import main; main()
"""


@pytest.mark.parametrize(("script", "code"), [("echo said", 1), ("exit 3", 3)])
def test_where_no_hub_ever_ran_the_exit_does_not_wait(tmp_path: Path, script: str, code: int) -> None:
    """If there is no socket file, one line counts what is lost; the exit code is 1, or that of a child that failed."""
    command = [sys.executable, "-c", PATIENT, "spawn", "-q", "--socket", str(tmp_path / "none.sock"), *sh(script)]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stdout) == (code, b"")
    lost = f"{2 + ('echo' in script)} messages are not acknowledged (no hub at {tmp_path}/none.sock)"
    assert done.stderr.decode() == f"mpsr: {lost}: start `mpsr hub`, or add --hub\n"


def test_the_spool_takes_what_the_hub_does_not(hub: HubProcess) -> None:
    """Where a hub has run, output waits in the spool for the next one: no wait, no line, exit code 0."""
    hub.stop()
    command = [sys.executable, "-c", PATIENT, "spawn", "-q", "--socket", hub.socket, "--tag", "w", *sh("echo said")]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    hub.start()
    eventually(lambda: texts(hub.messages("w.1")) == ["process.started", "said", "process.exited"], "it is stored")


@pytest.mark.parametrize("code", [0, 3])
def test_a_full_disk_under_standard_output(hub: HubProcess, code: int) -> None:
    """It is reported once; the hub gets everything, and the exit code is the child's."""
    command = ["spawn", "--socket", hub.socket, "--tag", "w", *sh(f"seq 3; exit {code}")]
    with open("/dev/full", "wb") as full, Running(*command, stdout=full, stderr=subprocess.PIPE) as running:
        _, errors = running.communicate()
    fault = b"mpsr: standard output: No space left on device; nothing more is shown here\n"
    assert (running.wait(), errors) == (code, fault)
    assert texts(hub.messages("w.1"))[1:-1] == ["1", "2", "3"]


def test_a_reader_that_has_ended_is_no_fault(hub: HubProcess) -> None:
    """`mpsr spawn | head` goes on, and says nothing."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = ["spawn", "--socket", hub.socket, "--tag", "w", *sh("seq 3")]
    with Running(*command, stdout=write_end, stderr=subprocess.PIPE) as running:
        os.close(write_end)
        _, errors = running.communicate()
    assert (running.wait(), errors) == (0, b"")
    assert texts(hub.messages("w.1"))[1:-1] == ["1", "2", "3"]
