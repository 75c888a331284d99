"""
Imports point one way.

A module may import what stands before it in LAYERS, read like text; members of a family (`x.*`) import each other. A
module with a row in ONLY imports only what that row names. Imports inside functions and under TYPE_CHECKING count too.
`hub/__init__.py` is exempt: it loads its public names when they are asked for.
"""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

LAYERS = """
    hub.errors hub.escaping hub.paths hub.configfile hub.log hub.checksum hub.zstd hub.cgroup hub.descriptor
    hub.writeall hub.extras hub.waiting hub.delays hub.syslogfields hub.address
    hub.entries.* hub.quantities hub.lockfile hub.trust hub.secretfile hub.tlscontext
    hub.message hub.metrics hub.access hub.losses
    hub.wire.*
    hub.dedupe hub.peer hub.ration hub.turn hub.holding hub.budget hub.users hub.opener hub.limits hub.inbox hub.intake
    hub.outbox hub.tls hub.natscredentials hub.natsplace hub.natsclient
    hub.journal.*
    hub.query.*
    hub.batchreplies hub.running hub.dispatch hub.acknowledgements hub.connection hub.receiver
    hub.socketpath hub.socketfile hub.tcpsocket hub.listener
    hub.endpoint
    hub.control.* hub.hub
    hub.service.misfit hub.service.tables
    hub.sources.* hub.sinks.* hub.web.*
    hub.alerts.*
    hub.service.*
    hub
    producers.spawn.lifecycle producers.spawn.procfile producers.spawn.lines
    producers.* producers producers.examples.* hub.bench.* hub.importing.* hub.viewer.*
    hub.cli.* hub.cli hub.__main__
"""
ORDER = LAYERS.split()

ONLY = {
    "hub.wire.*": "hub.checksum hub.syslogfields hub.entries.* hub.message hub.wire.*",
    "hub.journal.*": "hub.errors hub.checksum hub.zstd hub.lockfile hub.entries.* hub.message hub.metrics hub.dedupe "
    "hub.journal.*",
    "hub.query.*": "hub.escaping hub.entries.* hub.message hub.journal.* hub.query.*",
    "hub.__main__": "hub.cli",
    "producers.spawn.lifecycle": "",
    "producers.spawn.procfile": "",
    "producers.spawn.lines": "hub.entries.* hub.wire.*",
    "producers.*": "hub.errors hub.escaping hub.paths hub.configfile hub.descriptor hub.delays hub.lockfile hub.trust "
    "hub.entries.* hub.message hub.wire.* producers.* "
    "producers.spawn.lifecycle producers.spawn.procfile producers.spawn.lines",
    "producers": "hub.errors producers.*",
    "hub.bench.*": "hub.entries.* hub.message hub.wire.* hub.journal.* producers producers.* hub.bench.*",
    "producers.examples.*": "hub producers producers.examples.*",
}

IMPURE = {"asyncio", "logging", "select", "socket", "structlog", "time", "uvloop"}
PURE_ENOUGH = {("hub.wire.checking", "time")}
"""It runs on a thread, and sleeps between two pieces, so that other threads get the interpreter."""

ROOT = Path(__file__).parents[1]
PATHS = [path for package in ("hub", "producers") for path in sorted((ROOT / package).rglob("*.py"))]
FILES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in PATHS}


def place(module: str) -> str:
    """Return where in LAYERS *module* stands, by its own name or else its nearest family's; empty if nowhere."""
    families = [entry for entry in ORDER if entry.endswith("*") and f"{module}.".startswith(entry[:-1])]
    return module if module in ORDER else max(families, key=len, default="")


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Return each module of ours that the file at *path* names in an import."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in ("hub", "producers"))
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            source = ".".join([*package, *filter(None, [node.module])])
            if source.partition(".")[0] in ("hub", "producers"):
                names = [f"{source}.{alias.name}" for alias in node.names]
                yield from (name if name in FILES else source for name in names)


def complaints(module: str) -> Iterator[str]:
    """Yield a sentence for each import of *module* that the tables forbid."""
    here = place(module)
    if not here:
        yield f"{module} stands nowhere in LAYERS: give it a place"
        return
    for name in imports(FILES[module]):
        there = place(name)
        if here in ONLY and there not in ONLY[here].split():
            yield f"{module} imports {name}, but ONLY allows it {ONLY[here]}"
        elif here not in ONLY and there not in ORDER[: ORDER.index(here) + here.endswith("*")]:
            yield f"{module} imports {name}, which does not stand before it in LAYERS"


def impurities(module: str) -> Iterator[str]:
    """Name what *module* would not be pure with: sockets, clocks, logs, and anything that waits."""
    tree = ast.parse(FILES[module].read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)):
            yield f"{module} waits in line {node.lineno}"
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            if name.partition(".")[0] in IMPURE and (module, name) not in PURE_ENOUGH:
                yield f"{module} imports {name}"


def test_the_wire_is_pure() -> None:
    """Nothing in hub.wire imports a socket, a clock, a loop or a log, or waits."""
    found = [impurity for module in FILES if module.startswith("hub.wire") for impurity in impurities(module)]
    assert not found, "\n".join(found)
    assert list(impurities("hub.outbox"))  # it imports asyncio and socket


def test_imports_point_one_way() -> None:
    """Every module has a place in the table and imports only what that place allows."""
    found = [complaint for module in FILES if module != "hub" for complaint in complaints(module)]
    assert not found, "\n".join(found)


def test_a_producer_starts_light() -> None:
    """`import producers` loads no foreign event loop, no log library, and nothing of the hub beyond the wire."""
    script = "import producers, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-I", "-c", script], check=True, capture_output=True, text=True)
    loaded = set(run.stdout.split())
    light = ORDER[: ORDER.index("hub.wire.*") + 1]
    beyond = {name for name in loaded if name.startswith("hub.") and place(name) not in light}
    assert beyond | loaded & {"uvloop", "structlog", "click"} == set()


def test_send_starts_light(tmp_path: Path) -> None:
    """`mpsr send` loads no event loop, no log library and nothing that reads or writes a journal, also with a file."""
    file = tmp_path / "hub.toml"
    file.write_text(f'socket = "{tmp_path}/absent"')
    script = """
import sys
from hub.cli import main
try:
    main(["send", "--timeout", "0", "x"])
except SystemExit as ended:
    print(ended.code, *sys.modules)
"""
    run = subprocess.run(
        [sys.executable, "-I", "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path), "MPSR_CONFIG": str(file)},
    )
    code, *loaded = run.stdout.split()
    assert (code, run.stderr.startswith("mpsr: 1 message is not acknowledged")) == ("1", True)
    assert "hub.configfile" in loaded
    heavy = {
        "hub.service.settings",
        "asyncio",
        "uvloop",
        "structlog",
        "hub.journal.block",
        "hub.journal.reader",
        "hub.hub",
        "hub.log",
    }
    assert heavy & set(loaded) == set()


def in_a_cycle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of *graph* that import themselves by way of others."""
    left = dict(graph)
    while ends := [name for name in left if not left[name] & left.keys()]:
        for name in ends:
            del left[name]
    return sorted(left)


def test_no_imports_in_a_circle() -> None:
    """Inside a family too, no module imports itself by way of others, also not when a function runs."""
    graph = {name: set(imports(path)) - {name} for name, path in FILES.items()}
    assert in_a_cycle(graph) == []
    assert in_a_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]  # and what needs one of them


def test_entries_are_imported_from_the_package() -> None:
    """`hub.entries` is the one name of the format: no module outside imports a part of it."""
    users = {name: [each for each in imports(FILES[name]) if each.startswith("hub.entries")] for name in FILES}
    parts = {name: each for name, each in users.items() if not name.startswith("hub.entries")}
    assert [name for name, each in parts.items() if set(each) - {"hub.entries"}] == []
    assert [name for name, each in users.items() if set(each) - {"hub.entries"}]  # the package itself does
