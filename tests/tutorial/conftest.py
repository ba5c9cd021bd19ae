"""What the tests of README.md and RECIPES.md need."""

import pytest


@pytest.fixture
def full(request):
    return request.config.getoption("--full")
