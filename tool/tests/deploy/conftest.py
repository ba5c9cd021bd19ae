"""The toy app of three functions, on a fake Google Cloud that records commands."""

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
    """The fake Google Cloud right after a deploy of the toy app, for tests that do not change it."""
    cloud = Cloud(tmp_path_factory.mktemp("cloud"), tmp_path_factory.mktemp("app") / "toy")
    shutil.copytree(TOY, cloud.app)
    cloud.deploy_sh()
    return cloud


@pytest.fixture
def deployed(cloud, first_deploy):
    """The fake Google Cloud after an earlier deploy of the toy app; a test may change it."""
    shutil.copytree(first_deploy.folder, cloud.folder, dirs_exist_ok=True)
    cloud.forget()
    return cloud
