"""What the tests of README.md and RECIPES.md need."""

import pytest


@pytest.fixture
def full(request):
    return request.config.getoption("--full")


def pytest_collection_modifyitems(items):
    """The longest tests begin first, but not two behind one another: a worker takes two at a time."""
    long = [item for item in items if item.get_closest_marker("long")]
    others = [item for item in items if item not in long and "project" not in item.fixturenames]
    shared = [item for item in items if "project" in item.fixturenames]
    items[:] = [*long[:1], *shared, *long[1:3], *others[:4], *long[3:], *others[4:]]


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.getreports("passed"):
        for recipe, said in report.user_properties:
            terminalreporter.write_line(f"{recipe}: {said}")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: runs the tests of a whole copy")
