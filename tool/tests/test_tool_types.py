"""mypy finds nothing in the local target, whose every function says what it takes and gives."""

import sys

from tool.testing import ROOT, run, succeeded


def test_mypy_knows_every_type_of_the_local_target():
    mypy = (sys.executable, "-m", "mypy", "--strict", "--no-error-summary")
    succeeded(run(*mypy, str(ROOT / "tool" / "local")))
