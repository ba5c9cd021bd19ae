"""mypy knows the types of the tool, which says what may be unknown."""

import sys

import pytest

from tool.testing import ROOT, run, succeeded


@pytest.mark.parametrize("part", ["deploy", "python"])
def test_mypy_finds_nothing_in_the_tool(part):
    folder = str(ROOT / "tool" / part)
    succeeded(run(sys.executable, "-m", "mypy", "--strict", "--no-error-summary", folder))
