"""
Whether a type checker knows the type of everything public in the installed packages, by pyright --verifytypes.

    .ci/publictypes.py PYRIGHT PACKAGE...

Public is what a package lists in `__all__`, with the members of its classes. For pyright that is every module without
an underscore, so only the names in its answer that begin with a public one count. A type that one of them mentions is
known only if all of its own members are: everything that users can reach is covered.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from typing import Any


def symbols_of(pyright: str, package: str) -> list[dict[str, Any]]:
    """Return what pyright found out about each symbol of a package that this interpreter imports."""
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"  # it asks the first `python` there
    command = [pyright, "--ignoreexternal", "--outputjson", "--verifytypes", package]
    asked = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    if asked.returncode > 1:  # 1: there are errors, which are in the answer
        sys.exit(f"{pyright}: exit code {asked.returncode}\n{asked.stdout}{asked.stderr}")
    found: list[dict[str, Any]] = json.loads(asked.stdout)["typeCompleteness"]["symbols"]
    return found


def names_of(package: str) -> list[str]:
    """Return the public names, each where it is exported and where it is defined."""
    module = importlib.import_module(package)
    defined = [f"{getattr(module, name).__module__}.{name}" for name in module.__all__]
    return [*(f"{package}.{name}" for name in module.__all__), *defined]


def main() -> int:
    """Print each public symbol without a known type; return the exit code."""
    unknown = 0
    for package in sys.argv[2:]:
        names = names_of(package)
        symbols = [
            symbol
            for symbol in symbols_of(sys.argv[1], package)
            if any(symbol["name"] == name or symbol["name"].startswith(f"{name}.") for name in names)
        ]
        missing = set(names) - {symbol["name"] for symbol in symbols}
        if missing:
            sys.exit(f"pyright does not know {', '.join(sorted(missing))}: is the package installed?")
        for symbol in symbols:
            if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]:
                unknown += 1
                reasons = [fault["message"].replace("\n", " ") for fault in symbol["diagnostics"]]
                print(f"{symbol['name']}: {'; '.join(reasons) or 'type unknown'}")
        print(f"{package}: {len(symbols)} public symbols")
    if unknown:
        print(f"{unknown} of them have no complete type; the causes: {sys.argv[1]} --verifytypes PACKAGE")
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
