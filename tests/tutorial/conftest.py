"""What the tests of README.md and RECIPES.md need."""

import pytest


@pytest.fixture
def full(request):
    return request.config.getoption("--full")


def pytest_collection_modifyitems(items):
    """The longest tests begin first, each on a worker of its own."""
    items.sort(key=lambda item: not item.get_closest_marker("long"))


def pytest_configure(config):
    config.addinivalue_line("markers", "long: runs the tests of a whole copy")
