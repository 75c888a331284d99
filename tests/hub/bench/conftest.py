"""The benchmark's clients are producers, and are tested beside the same kind of hub."""

from tests.producers.conftest import folder, hub, tag

__all__ = ["folder", "hub", "tag"]
