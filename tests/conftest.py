"""Settings of the test run that pyproject.toml has no place for."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import re
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.certificates import Certificates, make_certificates
from tests.support import HubProcess, descriptors
from tests.turns import turn

# A shared machine sometimes stalls. That is no failure, neither in a test nor while Hypothesis draws its
# examples; a hang meets pytest's timeout.
settings.register_profile("mpsr", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mpsr")
# `make coverage`: the same examples in every run, so that its figures are the same too.
settings.register_profile("coverage", settings(), derandomize=True, database=None, max_examples=25)

ROOT = Path(__file__).parent
HYPOTHESIS_SEED = "MPSR_HYPOTHESIS_SEED"
"""Environment variable: a number that all examples of Hypothesis are drawn from, in CI too."""

FIRST = (
    "adversaries/test_adversaries",
    "system/test_streams",
    "system/test_faults_clients",
    "hub/service/test_service",
    "benchmarks/test_ratio",
    "system/test_files_history",
    "hub/web/page/test_page",
    "hub/web/page/test_searching",
    "hub/web/page/test_hostile",
    "docs/test_snippets",
    "system/test_jetstream",
    "docker/test_composition",
    "hub/journal/test_recovery",
    "hub/wire/test_hostile",
    "hub/web/page/test_sql",
    "system/test_faults_disk",
    "system/test_files_rotation",
    "test_release",
    "system/test_power_cut",
    "system/test_soak",
    "system/test_spawn",
    "hub/web/page/test_charts",
    "hub/test_fairness",
    "hub/sources/test_spool",
    "hub/cli/test_logs_socket",
    "system/test_positions",
    "conformance/test_conformance",
    "producers/test_lifetime",
    "hub/test_trust",
    "hub/cli/test_options_complaints",
    "producers/test_contract_lost",
    "hub/cli/test_logs",
    "hub/bench/test_bench",
    "benchmarks/test_peers",
    "hub/wire/test_lines",
    "hub/sources/test_tail",
    "hub/wire/test_forward_property",
    "hub/viewer/test_infiles",
    "hub/journal/test_reader",
    "system/test_activation",
    "benchmarks/test_figures",
    "hub/journal/test_writer",
    "hub/sources/test_deadspool",
    "hub/cli/test_top",
    "hub/wire/test_spoolfile",
    "hub/wire/test_multiline",
    "hub/wire/test_scanner",
    "system/test_strangers",
    "hub/bench/test_check",
    "docs/test_exec",
    "system/test_tcp_clients",
    "system/test_otlp",
    "system/test_kill",
    "system/test_configuration",
    "hub/entries/test_entries",
    "hub/test_dispatch",
    "hub/wire/test_forward_limits",
    "system/test_forward",
    "hub/sinks/test_runner",
    "hub/sources/test_journald",
    "producers/test_examples",
    "system/test_spawn_output",
    "hub/sources/test_jetstream",
    "hub/test_connection",
    "producers/test_outgoing",
    "hub/cli/test_bench",
    "system/test_exits",
    "hub/query/test_sql",
    "hub/cli/test_importing",
    "producers/test_contract",
    "hub/test_natsclient",
    "hub/journal/test_histories",
    "hub/web/page/test_modules",
    "hub/wire/test_otlp",
    "system/test_faults",
    "producers/test_blocking_process",
    "hub/query/test_packed",
)
"""
The files that take ten seconds and more beside others, the longest first: a file runs in one process, and none begins
late. Three whose tests are short follow the one that wants to be alone, so that it does not wait for them; and then
another one that wants to be alone, while they still run.
"""
DESCRIPTORS_LEFT_MAX = 8
"""What one test may leave open: the first of a process leaves a hub that others use, or what an event loop keeps."""

# A run under nohup, or in the background of a shell, was started to ignore these, and so would every process that it
# starts. A handler lets this process survive them as well, but ends with exec: the tests' processes have the default.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Long forms of tests whose short form is always run."""
    parser.addoption("--kills", type=int, default=12, help="how many processes the kill test kills (12)")
    parser.addoption("--seed", type=int, default=1, help="seed of the kill test's history (1)")


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around pytest-timeout: the time in which a test waits does not count
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """With several workers: a test marked `alone` waits until no other runs, and all others wait for it."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    folder = Path(item.config.getoption("basetemp")).parent  # of all workers
    with turn(folder, alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.fixture(autouse=True)
def _descriptors_are_closed() -> Iterator[None]:
    """A test leaves few descriptors open: after many that leave theirs, others would fail for want of one."""
    most = descriptors() + DESCRIPTORS_LEFT_MAX
    yield
    if descriptors() > most:
        gc.collect()  # an object in a cycle of references closes its own when it is collected
        assert descriptors() <= most, f"a test left more than {DESCRIPTORS_LEFT_MAX} open: {sorted(_targets())}"


def _targets() -> Iterator[str]:
    """Yield what the open descriptors of this process refer to."""
    for fd in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # that of this list
            yield os.readlink(f"/dev/fd/{fd}")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket in it."""
    path = Path(tempfile.mkdtemp(prefix="mpsr-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like that of pytest, which looks through the folders of all earlier tests for the next number."""
    name = re.sub(r"\W", "_", request.node.name)[:21]  # the paths of sockets are short
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=tmp_path_factory.getbasetemp()))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    """A real hub of the test's own, which may stop or kill it."""
    with HubProcess(tmp_path) as hub:
        yield hub


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers, begin with the files that take longest."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        order = {ROOT / f"{name}.py": at for at, name in enumerate(FIRST)}
        items.sort(key=lambda item: order.get(item.path, len(order)))


@pytest.hookimpl(tryfirst=True)  # the plugin of Hypothesis reads its option in the same hook
def pytest_configure(config: pytest.Config) -> None:
    """Take the seed of Hypothesis from the environment. Without one, CI draws the same examples each time."""
    config.option.loadscopereorder = False  # of xdist: it would sort the files by the number of their tests
    if seed := os.environ.get(HYPOTHESIS_SEED):
        config.option.hypothesis_seed = str(int(seed))
        settings.register_profile("mpsr", settings.get_profile("mpsr"), derandomize=False)
        settings.load_profile("mpsr")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect the tests without the garbage collector: nearly everything that is made then stays."""
    gc.disable()
    _compile_part()
    found = yield
    gc.enable()
    return found


def _compile_part() -> None:
    """
    With several workers, each compiles another part of the tests, and finds the rest compiled: in a new checkout, all
    of them would compile all files at the same time.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers == 1:
        return
    number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    for path in sorted(ROOT.rglob("test_*.py"))[number::workers]:
        with contextlib.suppress(Exception, pytest.skip.Exception):  # raised again when it is collected
            importlib.import_module(".".join(path.relative_to(ROOT.parent).with_suffix("").parts))


def pytest_collection_finish() -> None:
    """Exclude the tests themselves from garbage collection: each collection would look at all of them."""
    gc.collect()
    gc.freeze()


def pytest_report_header() -> str:
    """Name the seed, so that a log says how to repeat the run."""
    return f"hypothesis seed: {os.environ.get(HYPOTHESIS_SEED) or f'its own choice ({HYPOTHESIS_SEED}=N sets it)'}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Escape what UTF-8 cannot say in what a test has printed or logged: a worker could not send it."""
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around all others: only the line of totals follows
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """End with the durability tests that did not run, and what they lack."""
    yield
    lacking: dict[str, Counter[str]] = {}
    for report in terminalreporter.stats.get("skipped", []):
        if "durability" in getattr(report, "keywords", ()) and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            lacking.setdefault(reason, Counter())[report.location[2].partition("[")[0]] += 1
    for reason, tests in lacking.items():
        names = ", ".join(f"{name} ({count})" for name, count in tests.items())
        line = f"DURABILITY NOT TESTED, {tests.total()} tests did not run: {reason}: {names}"
        terminalreporter.write_line(line, yellow=True, bold=True)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates for tests of TLS."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    return make_certificates(tmp_path_factory.mktemp("certificates"))
