#!/usr/bin/env python3
"""
Which tests of a run were skipped, and whether each had a reason that this machine is allowed to have.

    .ci/skips.py REPORT    REPORT: what pytest wrote with --junitxml

A test that is skipped in CI is never run anywhere, so a skip is a failure. Three reasons are allowed, and listed:
- the test needs root, and this user is not root;
- no Docker engine is possible here, as `.ci/docker start` has found out (MPSR_CI_NO_ENGINE is set);
- the kernel is too old for what is tested.
On the reference machine (MPSR_CI_REFERENCE is set) only the first is: there, everything has been run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from xml.etree import ElementTree


def skipped(report: str) -> list[tuple[str, str]]:
    """Return test and reason of each skip. An expected failure is written as a skip too, and did run."""
    return [
        (f"{case.get('classname')}.{case.get('name')}", skip.get("message", ""))
        for case in ElementTree.parse(report).iter("testcase")
        for skip in case.iter("skipped")
        if skip.get("type") != "pytest.xfail"
    ]


def allowed_reasons(environ: Mapping[str, str], user: int) -> list[str]:
    """Return how the reasons begin that are allowed."""
    reasons = ["needs root: "] if user else []
    if not environ.get("MPSR_CI_REFERENCE"):
        reasons.append("needs a newer kernel: ")
        if environ.get("MPSR_CI_NO_ENGINE"):
            reasons.append("no Docker engine: ")
    return reasons


def main() -> int:
    """Print the skips, those that are not allowed last; return the exit code."""
    found = skipped(sys.argv[1])
    reasons = tuple(allowed_reasons(os.environ, os.geteuid()))
    refused = [(test, reason) for test, reason in found if not reason.startswith(reasons)]
    for title, tests in (("allowed", [row for row in found if row not in refused]), ("failed", refused)):
        if tests:
            print(f"== {title}: {len(tests)} skipped", *(f"{test}: {reason}" for test, reason in tests), sep="\n")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
