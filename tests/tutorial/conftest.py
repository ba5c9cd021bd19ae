"""What the tests of README.md and RECIPES.md need."""

import itertools

import pytest


@pytest.fixture
def full(request):
    return request.config.getoption("--full")


def pytest_collection_modifyitems(items):
    """The longest tests begin first, each on a worker of its own: a worker takes two at a time."""
    long = [item for item in items if item.get_closest_marker("long")]
    others = [item for item in items if item not in long]
    pairs = itertools.zip_longest(long, others[: len(long)])
    items[:] = [item for pair in pairs for item in pair if item] + others[len(long) :]


def pytest_configure(config):
    config.addinivalue_line("markers", "long: runs the tests of a whole copy")
