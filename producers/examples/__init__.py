"""Short programs to learn from; each runs by itself, `python -m producers.examples.NAME`."""
