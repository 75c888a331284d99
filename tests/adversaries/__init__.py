"""Attackers beside ordinary producers. Usage: `python -m tests.adversaries --help`."""
