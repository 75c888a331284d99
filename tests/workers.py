"""
The suite on all processors: the tests are collected once, and processes that are forked then take one file after the
other.

Always true:
- the tests of a file run in one worker, in their order; files begin in the order in which they were collected;
- a worker that dies fails its test and the rest of its file, and the others go on with the other files;
- a worker ends with the run, and before it has taken down the fixtures of its session.

Not here: which tests run while no other does (tests.turns).
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import itertools
import os
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from _pytest.assertion.rewrite import PYC_TAIL
from _pytest.junitxml import xml_key

ENDS_S = 60.0
"""How long a worker may take to end its test and its fixtures when the run is broken off."""
STALE_MIN = 50
"""How many files have to be compiled before several processes do it sooner than one."""
Location = tuple[str, int | None, str]
FOLDER = pytest.StashKey[Path]()
"""The folder that all workers of a run have in common; not there if the tests run in one process."""


class Workers:
    """The plugin: runs what was collected in *count* processes, file by file, or with *each* test by test."""

    def __init__(self, count: int, *, each: bool) -> None:
        self._count = count
        self._each = each

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Run all tests; a single group of tests, and what could not be collected, are left to pytest."""
        groups = self._groups(session.items)
        if len(groups) < 2 or session.testsfailed or session.config.option.collectonly:
            return None
        session.config.pluginmanager.getplugin("terminalreporter").showfspath = False  # files alternate
        folder = session.config.stash[FOLDER] = Path(tempfile.mkdtemp(prefix="mpsr-workers-"))
        session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # made once, for all
        run = _Run(session, groups)
        try:
            for number in range(min(self._count, len(groups))):
                run.add_worker(f"w{number}")
            run.follow()
        finally:
            run.end()
            shutil.rmtree(folder, ignore_errors=True)
        return True

    def _groups(self, items: Sequence[pytest.Item]) -> list[list[pytest.Item]]:
        if self._each:
            return [[item] for item in items]
        files: dict[Path, list[pytest.Item]] = {}
        for item in items:
            files.setdefault(item.path, []).append(item)
        return [*files.values()]


class _Worker:
    """A worker as the main process sees it."""

    def __init__(self, name: str, pid: int, connection: Connection) -> None:
        self.gateway = SimpleNamespace(id=name)  # pytest looks for the name of a worker there, or for the next line
        self._workerinfocache = f"[worker {name}]"
        self.pid = pid
        self.connection = connection
        self.left: dict[str, Location] = {}  # the tests of the files that it has taken, until they have run

    def stop(self) -> None:
        """Let it begin no other test."""
        with contextlib.suppress(OSError):  # it has ended
            self.connection.send(None)

    def end(self) -> int:
        """Wait for its end, or bring it about. Return its exit code."""
        deadline = time.monotonic() + ENDS_S
        while not (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.01)
        self.connection.close()
        return os.waitstatus_to_exitcode(ended[1])


class _Run:
    """The workers, and what has not been taken yet."""

    def __init__(self, session: pytest.Session, groups: list[list[pytest.Item]]) -> None:
        self._session = session
        self._config = session.config
        self._groups = groups
        self._next = iter(range(len(groups)))
        self._workers: dict[Connection, _Worker] = {}

    def add_worker(self, name: str) -> None:
        """Fork a worker."""
        ours, theirs = Pipe()
        pid = os.fork()
        if not pid:
            for other in (ours, *self._workers):
                other.close()
            _work(self._session, self._groups, theirs)
        theirs.close()
        self._workers[ours] = _Worker(name, pid, ours)

    def follow(self) -> None:
        """Give the workers what they ask for, and report what they report, until all have ended."""
        while self._workers:
            for connection in wait([*self._workers]):
                assert isinstance(connection, Connection)
                worker = self._workers[connection]
                try:
                    messages = connection.recv()
                except (EOFError, ConnectionResetError):
                    del self._workers[connection]
                    self._bury(worker)
                    continue
                for name, values in messages:
                    self._take(worker, name, values)
            if self._session.shouldfail:
                raise self._session.Failed(self._session.shouldfail)
            if self._session.shouldstop:
                raise self._session.Interrupted(self._session.shouldstop)

    def end(self) -> None:
        """Let all workers end that are left."""
        for worker in self._workers.values():
            worker.stop()
        for worker in self._workers.values():
            worker.end()

    def _take(self, worker: _Worker, name: str, values: dict[str, Any]) -> None:
        if name == "next":
            number = next(self._next, None)
            if number is not None:
                worker.left |= {item.nodeid: item.location for item in self._groups[number]}
            with contextlib.suppress(OSError):  # it has died
                worker.connection.send(number)
        elif name == "report":
            report = self._config.hook.pytest_report_from_serializable(config=self._config, data=values)
            self._report(worker, report)
        elif name == "pytest_warning_recorded":
            self._config.hook.pytest_warning_recorded.call_historic(kwargs=values)
        else:
            getattr(self._config.hook, name)(**values)
            if name == "pytest_runtest_logfinish":
                del worker.left[values["nodeid"]]

    def _report(self, worker: _Worker, report: pytest.TestReport) -> None:
        report.node = worker  # type: ignore[attr-defined]  # as the terminal and the report in XML know them
        self._config.hook.pytest_runtest_logreport(report=report)

    def _bury(self, worker: _Worker) -> None:
        """Report as failed what a worker has taken and has not run."""
        code = worker.end()
        name = worker.gateway.id
        for at, (nodeid, location) in enumerate(worker.left.items()):
            fault = f"worker {name} has ended with exit code {code} {'before' if at else 'in'} this test"
            self._report(worker, pytest.TestReport(nodeid, location, {}, "failed", fault, "call"))
        if code and not worker.left:
            raise RuntimeError(f"worker {name} has ended with exit code {code} after its tests")


def compile_tests(root: Path, count: int) -> None:
    """Before the tests of a new checkout are collected, let *count* processes compile those below *root*."""
    stale = [path for path in sorted(root.rglob("test_*.py")) if _is_stale(path)]
    if len(stale) < STALE_MIN:
        return
    pids = []
    for number in range(count):
        if pid := os.fork():
            pids.append(pid)
            continue
        for path in stale[number::count]:
            with contextlib.suppress(BaseException):  # raised again when it is collected
                importlib.import_module(".".join(path.relative_to(root.parent).with_suffix("").parts))
        os._exit(0)
    for pid in pids:
        os.waitpid(pid, 0)


def _is_stale(path: Path) -> bool:
    try:
        return (path.parent / "__pycache__" / (path.stem + PYC_TAIL)).stat().st_mtime < path.stat().st_mtime
    except OSError:
        return True


# In a worker.


class _Reporting:
    """The plugin of a worker: sends to the main process what is reported there, once for each test."""

    def __init__(self, config: pytest.Config, connection: Connection) -> None:
        self._config = config
        self._connection = connection
        self._unsent: list[tuple[str, dict[str, Any]]] = []

    def pytest_runtest_logstart(self, nodeid: str, location: Location) -> None:
        self._unsent.append(("pytest_runtest_logstart", {"nodeid": nodeid, "location": location}))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._unsent.append(("report", data))

    def pytest_runtest_logfinish(self, nodeid: str, location: Location) -> None:
        self._unsent.append(("pytest_runtest_logfinish", {"nodeid": nodeid, "location": location}))
        self._connection.send(self._unsent)
        self._unsent = []

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: Location | None
    ) -> None:
        warning_message.source = None  # any object, which the other process could not have
        values = {"warning_message": warning_message, "when": when, "nodeid": nodeid, "location": location}
        self._unsent.append(("pytest_warning_recorded", values))


def _become_worker(config: pytest.Config, connection: Connection) -> None:
    """Leave to the main process what it reports, and have what no two processes may share."""
    manager = config.pluginmanager
    capture = manager.getplugin("capturemanager")  # its files have one position for all processes
    capture.stop_global_capturing()
    capture.start_global_capturing()
    capture.suspend_global_capture()
    writer = config.get_terminal_writer()
    manager.unregister(name="terminalreporter")
    manager.register(SimpleNamespace(_tw=writer), "terminalreporter")  # pytest-timeout writes there
    if (xml := config.stash.get(xml_key, None)) is not None:
        manager.unregister(xml)
    manager.register(_Reporting(config, connection))


def _taken(groups: list[list[pytest.Item]], connection: Connection) -> Iterator[pytest.Item]:
    """Yield the tests of the groups that this worker gets, one group after the other."""
    while True:
        connection.send([("next", {})])
        if (number := connection.recv()) is None:
            return
        yield from groups[number]


def _work(session: pytest.Session, groups: list[list[pytest.Item]], connection: Connection) -> NoReturn:
    """Run groups of tests until there are no more."""
    code = 1
    try:
        _become_worker(session.config, connection)
        items = itertools.chain(_taken(groups, connection), [None])
        for item, following in itertools.pairwise(items):
            assert item is not None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if connection.poll() or session.shouldfail or session.shouldstop:
                break
        code = 0
    except KeyboardInterrupt:
        pass
    except BaseException:  # noqa: BLE001  the process ends here
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            session._setupstate.teardown_exact(None)
        atexit._run_exitfuncs()
        os._exit(code)
