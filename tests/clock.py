"""A clock for tests: time passes only where a step says so."""


class Clock:
    """Returns *now*, in seconds, until the test changes it. It begins above 0, the value of a time that is not set."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
