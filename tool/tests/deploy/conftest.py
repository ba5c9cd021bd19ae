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


@pytest.fixture(scope="session")
def first_deploy(tmp_path_factory):
    """Such a Google Cloud right after the toy app was deployed, for tests that change nothing in it."""
    cloud = Cloud(tmp_path_factory.mktemp("cloud"), tmp_path_factory.mktemp("app") / "toy")
    shutil.copytree(TOY, cloud.app)
    cloud.deploy_sh()
    return cloud


@pytest.fixture
def deployed(cloud, first_deploy):
    """Such a Google Cloud to which the toy app was deployed before."""
    shutil.copytree(first_deploy.folder, cloud.folder, dirs_exist_ok=True)
    cloud.forget()
    return cloud
