"""
Tests mirror the tree: `hub/wire/forward.py` has `tests/hub/wire/test_forward.py`.

UNMIRRORED lists the modules that others test, and by which file. A test of a second aspect of a module is named after
it: `test_forward_limits.py` is one of `forward.py`.
"""

from pathlib import Path

ROOT = Path(__file__).parents[1]
UNMIRRORED = {
    "hub/entries/*": "tests/hub/entries/test_entries.py",  # what one module accepts, another has to read
    "hub/bench/*": "tests/hub/cli/test_bench.py",  # the whole command is run, and its figures are compared
    "hub/cli/options": "tests/hub/cli/test_options_complaints.py",
    "hub/cli/output": "tests/hub/cli/test_cli.py",
    "hub/cli/athub": "tests/hub/cli/test_logs_socket.py",
    "hub/cli/stored": "tests/hub/cli/test_logs_socket.py",
    "hub/cli/filtering": "tests/hub/cli/test_logs.py",
    "hub/cli/lnavformat": "tests/hub/cli/test_export.py",
    "hub/cli/selected": "tests/hub/cli/test_logs_views.py",
    "hub/cli/showing": "tests/hub/cli/test_logs_views.py",
    "hub/cli/together": "tests/hub/cli/test_logs_views.py",
    "hub/cli/config": "tests/system/test_configuration.py",
    "hub/cli/spawn": "tests/system/test_spawn.py",
    "hub/cli/spawning": "tests/system/test_spawn.py",
    "hub/cli/specs": "tests/system/test_spawn.py",
    "hub/cli/ownhub": "tests/system/test_spawn.py",
    "hub/cli/reports": "tests/system/test_spawn.py",
    "hub/cli/words": "tests/system/test_spawn_procfile.py",
    "hub/cli/systemctl": "tests/hub/cli/test_install.py",
    "hub/cli/uninstall": "tests/hub/cli/test_install.py",
    "hub/alerts/alerts": "tests/hub/alerts/test_runner.py",
    "hub/cli/progress": "tests/hub/cli/test_export.py",
    "hub/cli/sqlresult": "tests/hub/cli/test_sql.py",
    "hub/query/arrow": "tests/hub/query/test_sql.py",
    "hub/query/columns": "tests/hub/query/test_sql.py",  # what one column holds, a query with all of them must find
    "hub/query/index": "tests/hub/query/test_indexed.py",
    "hub/query/parquet": "tests/hub/cli/test_export.py",
    "hub/query/sqlplan": "tests/hub/query/test_sql.py",
    "hub/query/sqlrows": "tests/hub/query/test_sql.py",
    "hub/viewer/app": "tests/hub/cli/test_top.py",
    "hub/viewer/athub": "tests/hub/viewer/test_infiles.py",
    "hub/viewer/keys": "tests/hub/cli/test_top.py",
    "hub/viewer/listing": "tests/hub/cli/test_top.py",
    "hub/viewer/live": "tests/hub/cli/test_top.py",
    "hub/viewer/painted": "tests/hub/cli/test_top.py",
    "hub/viewer/pane": "tests/hub/cli/test_top.py",
    "hub/viewer/pulse": "tests/hub/cli/test_top.py",
    "hub/viewer/searchbox": "tests/hub/cli/test_top.py",
    "hub/viewer/status": "tests/hub/cli/test_top.py",
    "hub/viewer/store": "tests/hub/viewer/test_infiles.py",
    "hub/viewer/strip": "tests/hub/cli/test_top.py",
    "hub/viewer/table": "tests/hub/cli/test_top.py",
    "hub/viewer/work": "tests/hub/cli/test_top.py",
    "hub/metrics": "tests/hub/control/test_methods.py",
    "hub/service/conflicts": "tests/hub/service/test_settings.py",
    "hub/service/housekeeping": "tests/hub/service/test_service.py",
    "hub/service/signals": "tests/hub/service/test_service.py",
    "hub/service/misfit": "tests/hub/service/test_tables.py",
    "hub/acknowledgements": "tests/hub/test_connection.py",
    "hub/batchreplies": "tests/hub/test_dispatch.py",
    "hub/holding": "tests/hub/test_budget.py",
    "hub/running": "tests/hub/test_dispatch.py",
    "hub/socketpath": "tests/hub/test_socketfile.py",
    "hub/sinks/kinds": "tests/hub/sinks/test_table.py",
    "hub/sinks/forms": "tests/hub/sinks/test_portions.py",
    "hub/sinks/orders": "tests/hub/sinks/test_runner.py",
    "hub/sinks/place": "tests/hub/sinks/test_runner.py",
    "hub/sinks/values": "tests/hub/sinks/test_table.py",
    "hub/sinks/sink": "tests/hub/sinks/test_runner.py",
    "hub/sinks/otlpmessage": "tests/hub/sinks/test_otlpencode.py",  # what a collector reads counts
    "hub/sources/kinds": "tests/hub/sources/test_table.py",
    "hub/sources/source": "tests/hub/sources/test_sources.py",
    "hub/sources/values": "tests/hub/sources/test_table.py",
    "hub/sources/positioned": "tests/hub/sources/test_kmsg.py",
    "hub/wire/arriving": "tests/hub/wire/test_forward_limits.py",
    "hub/wire/output": "tests/hub/wire/test_forward.py",
    "hub/wire/otlpjson": "tests/hub/wire/test_otlp.py",  # both formats give the same messages
    "hub/wire/otlpprotobuf": "tests/hub/wire/test_otlp.py",
    "hub/wire/otlprecord": "tests/hub/wire/test_otlp.py",
    "hub/wire/stacks": "tests/hub/wire/test_multiline.py",
    "hub/wire/batcher": "tests/hub/wire/test_lines.py",
    "hub/wire/buffer": "tests/hub/wire/test_forward_limits.py",
    "hub/control/selecting": "tests/hub/control/test_messages.py",
    "hub/web/answering": "tests/hub/web/test_website.py",
    "hub/web/pageserver": "tests/hub/web/test_pages.py",
    "producers/examples/*": "tests/producers/test_examples.py",
    "producers/spawn/output": "tests/producers/spawn/test_supervisor.py",
    "producers/sender": "tests/producers/test_contract.py",
}
WHOLES = {"hub/cli/cli", "hub/fairness", "hub/main", "hub/journal/age", "hub/journal/filters", "hub/journal/histories"}
WHOLES |= {
    f"hub/web/page/{part}" for part in ("files", "hostile", "modules", "page", "sql", "charts", "flood", "searching")
}  # not modules of Python
WHOLES |= {
    "hub/entries/entries",
    "hub/wire/hostile",
    "producers/client_contract",
    "producers/contract",
    "producers/contract_lost",
    "producers/examples",
    "producers/package",
    "producers/logs/gunicorn",
    "producers/logs/loguru",
}
"""Tests of several modules together, in the folder of these."""


def modules() -> set[str]:
    """Return every module as a path without suffix."""
    paths = (path for package in ("hub", "producers") for path in (ROOT / package).rglob("*.py"))
    return {str(path.relative_to(ROOT).with_suffix("")) for path in paths if not path.name.startswith("__")}


def claimed() -> set[str]:
    """Return what the names of the tests say they test."""
    tests = ROOT / "tests"
    paths = (path for package in ("hub", "producers") for path in (tests / package).rglob("test_*.py"))
    return {str((path.parent / path.stem.removeprefix("test_")).relative_to(tests)) for path in paths}


def test_every_module_has_its_test() -> None:
    """A module has a test of its name, or a row that names the test which covers it."""
    rows = {row.removesuffix("*") for row in UNMIRRORED if row.endswith("*")}
    alone = modules() - claimed() - UNMIRRORED.keys()
    assert sorted(name for name in alone if f"{name.rpartition('/')[0]}/" not in rows) == []
    assert [test for test in UNMIRRORED.values() if not (ROOT / test).exists()] == []


def test_every_test_has_its_module() -> None:
    """A test is named after a module, after one and an aspect of it, or is listed as one of several."""
    names = modules()
    alone = {
        test for test in claimed() - WHOLES if not any(test == name or test.startswith(f"{name}_") for name in names)
    }
    assert sorted(alone) == []


def test_no_row_is_left_over() -> None:
    """A row of a module that is gone, or that has a test of its own now, is deleted."""
    names, tested = modules(), claimed()
    gone = [row for row in UNMIRRORED if not row.endswith("*") and row not in names]
    assert gone + sorted(UNMIRRORED.keys() & tested) + sorted(WHOLES - tested) == []
