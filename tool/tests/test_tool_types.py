"""mypy finds nothing in what every app shares, where each function says what it takes and gives."""

import sys

from tool.testing import ROOT, run, succeeded


def test_mypy_knows_every_type_of_the_tool():
    mypy = (sys.executable, "-m", "mypy", "--strict", "--no-error-summary")
    files = ("tool/deploy", "tool/local", "tool/python", "tool/testing.py")
    succeeded(run(*mypy, *(str(ROOT / file) for file in files)))
