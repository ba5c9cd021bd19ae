"""ruff and mypy find nothing."""

import sys

from tool.testing import ROOT, run, succeeded


def test_ruff_finds_no_mistake():
    succeeded(run(sys.executable, "-m", "ruff", "check", str(ROOT)))


def test_mypy_knows_the_types_of_shared():
    succeeded(run(sys.executable, "-m", "mypy", "--no-error-summary", str(ROOT / "shared")))
