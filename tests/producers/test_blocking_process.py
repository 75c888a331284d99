"""Producer and its process: forks, exit, reused descriptor numbers, threads that cannot be started."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest

from producers import Producer
from tests.producers.fakehub import FakeHub
from tests.producers.helpers import dropped, in_child
from tests.support import PATIENCE_S, HubProcess, descriptors, eventually

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def run(program: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a program."""
    command = [sys.executable, "-W", "error", "-c", program, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


# Fork.


def test_fork_in_the_middle(hub: HubProcess, tag: str) -> None:
    """
    A forked child of a connected producer sends in its own session, the parent continues, and all messages arrive once.
    """
    producer = Producer(hub.socket, tag=tag)
    for number in range(1000):
        producer.send({"who": "parent", "n": number})

    def child() -> None:
        for number in range(1000):
            producer.send({"who": "child", "n": number})
        producer.close(PATIENCE_S)

    assert in_child(child) == 0
    for number in range(1000, 2000):
        producer.send({"who": "parent", "n": number})
    producer.close(PATIENCE_S)
    messages = hub.messages(tag)
    assert [m.record["n"] for m in messages if m.record["who"] == "parent"] == list(range(2000))
    assert [m.record["n"] for m in messages if m.record["who"] == "child"] == list(range(1000))
    assert len({m.peer.pid for m in messages if m.record["who"] == "child"} - {os.getpid()}) == 1


def test_what_the_parent_had_is_the_parents(fake: FakeHub) -> None:
    """The child of a producer with unsent messages has nothing to flush, and its close drops none of them."""
    producer = Producer(fake.path, linger_s=3600)
    producer.send({"n": 0})

    def child() -> None:
        producer.flush(timeout=0)
        producer.close(timeout=0)

    assert in_child(child) == 0
    flushing = threading.Thread(target=producer.flush)
    flushing.start()
    connection = fake.accept()
    connection.ack(connection.chunk())
    flushing.join(PATIENCE_S)
    producer.close()


def test_fork_while_other_threads_send(hub: HubProcess, tag: str) -> None:
    """Whatever lock other threads hold at the fork, the child can send, flush and close."""
    stop = threading.Event()
    sent = [0, 0]

    def send(name: int) -> None:
        while not stop.is_set():
            producer.send({"who": name, "n": sent[name]})
            sent[name] += 1

    def child() -> None:
        producer.send({"who": "child"})
        producer.close(PATIENCE_S)

    with Producer(hub.socket, tag=tag, chunk_bytes_max=1000, backlog_bytes_max=100_000) as producer:
        threads = [threading.Thread(target=send, args=(name,)) for name in range(2)]
        for thread in threads:
            thread.start()
        codes = [in_child(child) for _ in range(20)]
        stop.set()
        for thread in threads:
            thread.join()
    assert codes == [0] * 20
    messages = hub.messages(tag)
    assert sum(message.record["who"] == "child" for message in messages) == 20
    for name in range(2):
        assert [m.record["n"] for m in messages if m.record["who"] == name] == list(range(sent[name]))


def test_a_fork_does_not_keep_the_connection_open(fake: FakeHub) -> None:
    """The child does not keep the parent's connection open: the hub sees it end while the child lives."""
    producer = Producer(fake.path)
    producer.connect(PATIENCE_S)
    connection = fake.accept()
    release, hold = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(hold)
        os.read(release, 1)
        os._exit(0)
    producer.close()
    assert connection.is_closed_by_peer()
    os.close(hold)
    os.close(release)
    os.waitpid(pid, 0)


def test_a_closed_producer_leaves_a_childs_descriptors_alone(hub: HubProcess, tag: str) -> None:
    """
    After a fork, descriptor numbers that a closed producer once had are not closed: they may belong to other files.
    """
    producer = Producer(hub.socket, tag=tag)
    producer.send({"n": 0})
    producer.close()
    files = [open("/dev/null", "rb") for _ in range(5)]  # noqa: SIM115  closed below
    try:
        assert in_child(lambda: [os.fstat(file.fileno()) for file in files]) == 0
    finally:
        for file in files:
            file.close()


def test_a_grandchild(hub: HubProcess, tag: str) -> None:
    """A child that used its producer can fork again."""
    producer = Producer(hub.socket, tag=tag)

    def child() -> None:
        producer.send({"who": "child"})
        assert in_child(grandchild) == 0
        producer.close(PATIENCE_S)

    def grandchild() -> None:
        producer.send({"who": "grandchild"})
        producer.close(PATIENCE_S)

    assert in_child(child) == 0
    assert sorted(message.record["who"] for message in hub.messages(tag)) == ["child", "grandchild"]
    producer.close()


# Exit.


def test_a_program_that_never_closes(hub: HubProcess, tag: str) -> None:
    """At exit, a program that neither flushed nor closed still sends everything, from all of its producers."""
    program = (
        "import sys; from producers import Producer\n"
        "a, b, unused = (Producer(sys.argv[1], tag=sys.argv[2]) for _ in 'abc')\n"
        "for n in range(1000): a.send({'who': 'a', 'n': n}); b.send({'who': 'b', 'n': n})"
    )
    done = run(program, hub.socket, tag)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    messages = hub.messages(tag)
    for who in "ab":
        assert [m.record["n"] for m in messages if m.record["who"] == who] == list(range(1000))


def test_exit_without_a_hub(folder: Path) -> None:
    """If there is not even a socket file, the exit does not wait, and all lost messages are counted in one line."""
    program = (
        "import sys; from producers import Producer, lifetime; lifetime.CLOSE_TIMEOUT_S = 1e6\n"
        "some = [Producer(sys.argv[1]) for _ in range(3)]\n"
        "for n, producer in enumerate(some): [producer.send({}) for _ in range(n)]"
    )
    done = run(program, str(folder / "s"))
    assert (done.returncode, done.stdout) == (0, "")
    warning, *reports = sorted(done.stderr.splitlines())
    assert warning.startswith("messages wait for the hub in memory only")
    assert reports == [f"mpsr: 3 messages are not acknowledged (no hub at {folder}/s)"]


def test_exit_while_a_hub_is_down(folder: Path) -> None:
    """If there is a socket file, a hub may come back: the exit waits for it."""
    FakeHub(str(folder / "s")).sock.close()
    program = (
        "import sys, time; from producers import Producer, lifetime; lifetime.CLOSE_TIMEOUT_S = 0.3\n"
        "import atexit; begin = []; atexit.register(lambda: print(time.monotonic() - begin[0] >= 0.3))\n"
        "p = Producer(sys.argv[1], spool=False); p.send({})\n"
        "atexit.unregister(lifetime._end); atexit.register(lifetime._end)\n"
        "atexit.register(lambda: begin.append(time.monotonic()))"
    )
    done = run(program, str(folder / "s"))
    assert (done.returncode, done.stdout) == (0, "True\n")
    assert done.stderr == f"mpsr: 1 message is not acknowledged (the hub at {folder}/s is gone)\n"


def test_a_child_that_exits_in_the_usual_way(hub: HubProcess, tag: str) -> None:
    """A forked child that ends with sys.exit sends its messages, and the parent's exit is not disturbed."""
    program = (
        "import os, sys; from producers import Producer; p = Producer(sys.argv[1], tag=sys.argv[2])\n"
        "p.send({'who': 'parent'})\n"
        "if os.fork() == 0: p.send({'who': 'child'}); sys.exit()\n"
        "assert os.wait()[1] == 0"
    )
    done = run(program, hub.socket, tag)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(message.record["who"] for message in hub.messages(tag)) == ["child", "parent"]


WORKERS = """
import multiprocessing, sys
from producers import Producer
producer = Producer(sys.argv[1], tag=sys.argv[2])

def work(who):
    for n in range(100):
        producer.send({"who": who, "n": n})

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[3])
    workers = [context.Process(target=work, args=(who,)) for who in range(3)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    sys.exit(sum(worker.exitcode for worker in workers))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_that_never_close(hub: HubProcess, folder: Path, tag: str, method: str) -> None:
    """A child of multiprocessing, which ends without atexit, also sends everything."""
    program = folder / "workers.py"
    program.write_text(WORKERS)
    command = [sys.executable, str(program), hub.socket, tag, method]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    messages = hub.messages(tag)
    for who in range(3):
        assert [m.record["n"] for m in messages if m.record["who"] == who] == list(range(100))


DERIVATIVE = """
import importlib, sys
from producers import Producer
producer = Producer(sys.argv[1], tag=sys.argv[2], spool=False)

def work():
    for n in range(100):
        producer.send({"n": n})

worker = importlib.import_module(sys.argv[3]).get_context("fork").Process(target=work)
worker.start()
worker.join()
sys.exit(worker.exitcode)
"""


@pytest.mark.parametrize("name", ["billiard", "multiprocess"])
def test_workers_of_a_derivative(hub: HubProcess, folder: Path, tag: str, name: str) -> None:
    """A child of a derivative of multiprocessing also sends everything. A copy under its name stands for it."""
    shutil.copytree(Path(multiprocessing.__file__).parent, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    program = folder / "workers.py"
    program.write_text(DERIVATIVE)
    command = [sys.executable, str(program), hub.socket, tag, name]
    paths = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    environ = {**os.environ, "PYTHONPATH": paths}  # a script's folder is not searched if PYTHONSAFEPATH is set
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert [message.record["n"] for message in hub.messages(tag)] == list(range(100))


OUTLIVING = """
import sys, threading
from producers import Producer
p = Producer(sys.argv[1], tag=sys.argv[2])

def work():
    threading.main_thread().join()
    for n in range(1, 500):
        p.send({"n": n})
"""


def test_threads_that_outlive_the_program(hub: HubProcess, tag: str) -> None:
    """Messages that another thread sends after the end of the main one are flushed at exit, too."""
    done = run(OUTLIVING + "p.send({'n': 0}); threading.Thread(target=work).start()", hub.socket, tag)
    assert (done.returncode, done.stderr) == (0, "")
    assert [message.record["n"] for message in hub.messages(tag)] == list(range(500))


def test_threads_that_begin_to_send_after_the_program(hub: HubProcess, tag: str) -> None:
    """Python 3.12 starts no thread any more by then: the spool keeps the messages, and the hub fetches them."""
    done = run(OUTLIVING + "threading.Thread(target=work).start()", hub.socket, tag)
    assert (done.returncode, done.stderr) == (0, "")
    eventually(lambda: len(hub.messages(tag)) >= 499, "the hub looks at the spool")
    assert [message.record["n"] for message in hub.messages(tag)] == list(range(1, 500))


# Resources.


def test_a_hundred_producers_leave_nothing(hub: HubProcess, tag: str) -> None:
    """Producers that were opened, used and closed leave no descriptor, thread or memory."""
    before = descriptors()
    references = []
    for number in range(100):
        with Producer(hub.socket, tag=tag) as producer:
            if number % 3:
                producer.send({"n": number})
            if number % 3 == 1:
                producer.connect(PATIENCE_S)
        references.append(weakref.ref(producer))
    del producer
    gc.collect()
    assert descriptors() == before
    assert [reference for reference in references if reference() is not None] == []


def refuse(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_no_thread_to_be_had(hub: HubProcess, tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no thread can be started, as during interpreter shutdown, send raises and keeps nothing; later it works."""

    producer = Producer(hub.socket, tag=tag, spool=False)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        before = descriptors()
        for _ in range(3):
            with pytest.raises(RuntimeError):
                producer.send({"n": "refused"})
        producer.flush(0)
        assert descriptors() == before
    producer.send({"n": 1})
    producer.close(PATIENCE_S)
    assert [message.record["n"] for message in hub.messages(tag)] == [1]


def test_no_thread_but_a_spool(hub: HubProcess, tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a spool the message is accepted without a thread: the hub finds it when this producer is closed."""

    producer = Producer(hub.socket, tag=tag)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    producer.send({"n": 1})
    producer.close(PATIENCE_S)
    hub.look_for_spools()
    eventually(lambda: [message.record["n"] for message in hub.messages(tag)] == [1], "the last words")


def test_closed_with_half_a_chunk_in_hand(fake: FakeHub) -> None:
    """A close that gives up ends the thread at once, even if the kernel accepts no more data."""
    producer = Producer(fake.path)
    producer.send({"pad": "x" * 8_000_000})
    fake.accept()
    eventually(lambda: producer._sender._unsent, "half a chunk is in hand")
    thread = producer._handover.thread
    assert dropped(producer) == 1
    assert thread is not None
    assert not thread.is_alive()


CLOSED = """
import os, sys
from producers import Producer
producer = Producer(sys.argv[1], tag=sys.argv[2], spool=sys.argv[3] == "spool")
producer.send({"n": 0}); producer.flush(30)
os.closerange(3, 1000)
mine = [os.open(f"{sys.argv[4]}/{n}", os.O_RDWR | os.O_CREAT) for n in range(int(sys.argv[5]))]
for n in range(1, 100):
    producer.send({"n": n, "pad": "x" * 50_000})
producer.flush(30)
producer.close()
print([os.fstat(fd).st_size for fd in mine])
"""


@pytest.mark.parametrize("spool", ["spool", "memory"])
@pytest.mark.parametrize("files", [0, 12])
def test_the_program_closes_our_descriptors(hub: HubProcess, folder: Path, tag: str, spool: str, files: int) -> None:
    """
    After `os.closerange` everything is sent; files that got the numbers are neither written nor closed. With a spool
    messages may be stored twice, because the lock is lost and the hub reads the files.
    """
    done = run(CLOSED, hub.socket, tag, spool, str(folder), str(files))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{[0] * files}\n", "")
    numbers = [message.record["n"] for message in hub.messages(tag)]
    assert (sorted(set(numbers)) if spool == "spool" else numbers) == list(range(100))


NO_DESCRIPTOR = """
import os, resource, sys
from producers import NotAcknowledged, Producer
producer = Producer(sys.argv[1], tag=sys.argv[2])
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) - 1, hard))
producer.send({"n": 0})
try:
    producer.flush(0.2)
except NotAcknowledged as late:
    print(late.count)
producer.send({"n": 1})
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
producer.flush(30)
"""


def test_no_descriptor_to_be_had(hub: HubProcess, tag: str) -> None:
    """Without a free descriptor at the first call messages wait in memory, `flush` says so, and later they are sent."""
    done = run(NO_DESCRIPTOR, hub.socket, tag)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert [message.record["n"] for message in hub.messages(tag)] == [0, 1]


FROZEN = """
import sys, threading, time  # the library leaves `threading` alone
time.monotonic = lambda: 100.0
time.time = lambda: 1e9
from producers import NotAcknowledged, Producer
with Producer(sys.argv[1], tag=sys.argv[2]) as producer:
    producer.send({"n": 0})
    while producer.pending:  # after `linger_s`, not by a flush
        time.sleep(0.001)
absent = Producer(sys.argv[1] + ".absent", spool=False)
absent.send({})
try:
    absent.close(0.05)
except NotAcknowledged as late:
    print(late.count)
"""


def test_time_that_stands_still(hub: HubProcess, tag: str) -> None:
    """While a test library has frozen the time, messages are sent and waits end."""
    done = run(FROZEN, hub.socket, tag)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert len(hub.messages(tag)) == 1
