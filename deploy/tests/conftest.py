"""The toy app of three functions, on a Google Cloud that only takes notes."""

import pathlib
import shutil

import pytest

from recorded_cloud import TOY, Cloud


@pytest.fixture
def toy(tmp_path):
    """A copy of the toy app that a test may change."""
    return pathlib.Path(shutil.copytree(TOY, tmp_path / "toy app"))


@pytest.fixture
def cloud(tmp_path, toy):
    folder = tmp_path / "cloud"
    folder.mkdir()
    return Cloud(folder, toy)
