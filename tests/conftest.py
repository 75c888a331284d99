"""Settings of the test run that pyproject.toml has no place for."""

from hypothesis import settings

# A shared machine stands still now and then, which is no failure; a hang meets pytest's timeout.
settings.register_profile("mpsr", settings(), deadline=None)
settings.load_profile("mpsr")
