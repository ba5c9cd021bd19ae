"""ruff and mypy find nothing."""

import sys

import pytest

from tool.testing import ROOT, run, succeeded


def test_ruff_finds_no_mistake():
    succeeded(run(sys.executable, "-m", "ruff", "check", str(ROOT)))


# Each function separately, because each has a module named main.
TYPED = [ROOT / "shared", *(main.parent for main in (ROOT / "functions").glob("*/main.py"))]


@pytest.mark.parametrize("folder", TYPED, ids=lambda folder: folder.name)
def test_mypy_knows_the_types(folder):
    options = ("--no-error-summary", "--check-untyped-defs", "--ignore-missing-imports")
    succeeded(run(sys.executable, "-m", "mypy", *options, str(folder)))
