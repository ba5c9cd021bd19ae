"""What the tests of README.md and docs/ need."""

import sys

import pytest

from tool.testing import ROOT

# What these tests use of the functions' own (names.py, test_openapi.py, test_page.py) and of the tool's.
sys.path[:0] = [str(ROOT / folder) for folder in ("tests/functions", "tests/functions/login", "tool/tests/deploy")]


def pytest_addoption(parser):
    """Known where tests/docs is named on the command line."""
    parser.addoption("--pictures", action="store_true", help="take the README's pictures anew")


@pytest.fixture
def full(request):
    return request.config.getoption("--full")


def pytest_collection_modifyitems(items):
    """The longest tests begin first, each on a worker of its own."""
    items.sort(key=lambda item: not item.get_closest_marker("long"))


def pytest_configure(config):
    config.addinivalue_line("markers", "long: runs the tests of a whole copy")
