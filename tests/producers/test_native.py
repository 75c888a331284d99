"""Native: a producer has a thread of the system also where `threading` and `select` are patched, as gevent does it."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from producers import native
from tests.support import PATIENCE_S, HubProcess

PATCHED = """
import sys, types
if sys.argv[3] == "later":
    from producers import Producer
import _thread, select, socket, threading, time

def refuse(*_):
    raise AssertionError("this would not run beside the greenlets")

originals = {(module.__name__, name): getattr(module, name)
             for module, name in ((_thread, "start_new_thread"), (select, "poll"), (socket, "socket"))}
threading.Thread.start = threading.Condition.wait = refuse
_thread.start_new_thread = threading._start_new_thread = threading.RLock = refuse
socket.socket = refuse
del select.poll
slept = []
sleep = time.sleep
time.sleep = lambda seconds: (slept.append(threading.get_ident()), sleep(seconds))
if sys.argv[4] == "gevent":
    gevent = types.ModuleType("gevent.monkey")
    gevent.is_module_patched = lambda name: name in ("threading", "_thread", "select", "socket")
    gevent.get_original = lambda module, name: originals[module, name]
    sys.modules["gevent.monkey"] = gevent
else:
    eventlet = types.ModuleType("eventlet.patcher")
    eventlet.is_monkey_patched = lambda name: name == "thread"
    eventlet.original = lambda module: types.SimpleNamespace(
        **{name: value for (of, name), value in originals.items() if of == module})
    sys.modules["eventlet.patcher"] = eventlet
from producers import NotAcknowledged, Producer
producer = Producer(sys.argv[1], tag=sys.argv[2])
for n in range(100):
    producer.send({"n": n})
producer.flush(30)
absent = Producer(sys.argv[1] + ".absent", spool=False)
absent.send({})
try:
    absent.flush(0.01)
except NotAcknowledged as late:
    print(late.count)
producer.close()
print(set(slept) == {threading.get_ident()})
"""


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
@pytest.mark.parametrize("imported", ["before", "later"])
def test_a_patched_program(hub: HubProcess, tag: str, imported: str, library: str) -> None:
    """
    Whether it was patched before the import or after: messages are sent by a thread of the system, and the waits of
    callers are sleeps, which let other greenlets run.
    """
    command = [sys.executable, "-c", PATCHED, hub.socket, tag, imported, library]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stdout) == (0, "1\nTrue\n"), done.stderr
    assert [message.record["n"] for message in hub.messages(tag)] == list(range(100))


def test_a_program_that_is_not_patched() -> None:
    """Its thread is one of `threading`, which debuggers and profilers know."""
    assert not native.is_patched()
    assert isinstance(native.new_thread(lambda: None), threading.Thread)


def test_a_native_thread() -> None:
    """It runs beside the caller, is waited for by `join`, and is not alive before its start."""
    release, ran = threading.Event(), threading.Event()

    def run() -> None:
        ran.set()
        release.wait(PATIENCE_S)

    thread = native.NativeThread(run)
    assert not thread.is_alive()
    thread.start()
    assert ran.wait(PATIENCE_S)
    assert thread.is_alive()
    release.set()
    thread.join()
    assert not thread.is_alive()
