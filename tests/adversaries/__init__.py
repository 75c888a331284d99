"""Attackers beside ordinary producers: `python -m tests.adversaries --help`."""
