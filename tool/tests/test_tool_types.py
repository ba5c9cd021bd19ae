"""mypy finds nothing in the code that every app shares; each of its functions has type hints."""

import sys

from tool.testing import ROOT, run, succeeded


def test_mypy_knows_every_type_of_the_tool():
    mypy = (sys.executable, "-m", "mypy", "--strict", "--no-error-summary")
    files = ("tool/deploy", "tool/local", "tool/python", "tool/testing.py")
    succeeded(run(*mypy, *(str(ROOT / file) for file in files)))
