"""Short programs to learn from. Run one with `python -m producers.examples.NAME`."""
