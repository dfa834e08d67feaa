"""What every test shares: the same examples and the same names on every run."""

import os

import pytest
from hypothesis import settings

settings.register_profile(
    "fixed", derandomize=True, database=None, deadline=None, max_examples=15, print_blob=False
)
settings.load_profile("fixed")


@pytest.fixture
def usual_umask():
    """What a test makes is its user's alone to write, also where the umask is 002."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def pytest_collection_modifyitems(items):
    """Refuse a name that is another in the next process, where pytest-xdist would not find it."""
    named = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if named:
        raise pytest.UsageError(f"{named[0]} has the address of an object in its name; give it ids")


def pytest_ignore_collect(collection_path, config):
    """Leave the peers' folder alone when they are not asked for: they need not be installed."""
    peers_asked_for = "peers" in config.option.markexpr.replace("not peers", "")
    return None if peers_asked_for or collection_path.name != "peers" else True
