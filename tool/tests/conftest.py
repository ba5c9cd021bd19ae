"""What the tests of tool/deploy and of tool/local share."""

import shutil

import pytest

from tool.testing import run


@pytest.fixture(scope="session")
def latin_1(tmp_path_factory):
    """The variables of a shell whose locale is Latin-1."""
    folder = tmp_path_factory.mktemp("locales")
    name = "de_DE.ISO-8859-1"
    making = ("localedef", "--no-archive", "-i", "de_DE", "-f", "ISO-8859-1", str(folder / name))
    if not shutil.which("localedef") or run(*making).returncode:
        pytest.skip("left out: localedef cannot make a locale in Latin-1 here")
    return {"LC_ALL": name, "LOCPATH": str(folder)}
