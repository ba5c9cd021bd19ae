"""Set-up for the tests of README.md and docs/."""

import sys

import pytest

from tool.testing import ROOT

# These tests import modules of the functions' tests (names.py, test_openapi.py, test_page.py) and of the tool's.
sys.path[:0] = [str(ROOT / folder) for folder in ("tests/functions", "tests/functions/login", "tool/tests/deploy")]


def pytest_addoption(parser):
    """pytest knows this option only if tests/docs is named on the command line."""
    parser.addoption("--pictures", action="store_true", help="take the README's pictures again")


@pytest.fixture
def full(request):
    return request.config.getoption("--full")


def pytest_collection_modifyitems(items):
    """Starts the longest tests first, each on a worker of its own."""
    items.sort(key=lambda item: not item.get_closest_marker("long"))


def pytest_configure(config):
    config.addinivalue_line("markers", "long: runs the tests of a whole copy")
