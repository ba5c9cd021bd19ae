"""The local project of these tests: toy functions, deployed once by the stand-in for gcloud.

`inner` may be called by `outer`, `outer` by you, `closed` by nobody.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tool.testing import succeeded
from toys import Local


@pytest.fixture(scope="session")
def local(tmp_path_factory):
    local = Local(tmp_path_factory.mktemp("local"))
    names = ("inner", "outer", "closed")
    try:
        local.up(*names)
        with ThreadPoolExecutor() as pool:  # side by side, as in deploy.sh
            for deployed in pool.map(local.deploy, names):
                succeeded(deployed)
        local.let_in(local.member("outer"), "inner")
        local.let_in("user:you@example.com", "outer")
        yield local
    finally:
        local.end()


@pytest.fixture
def other(tmp_path):
    """A second local project, which a test may change and end."""
    other = Local(tmp_path)
    yield other
    other.end()


@pytest.fixture(scope="session")
def inner(local):
    """The URL of inner."""
    return local.url("inner")


@pytest.fixture(scope="session")
def token(local, inner):
    """A token of outer for inner, which lets outer in."""
    return local.token("outer", inner)
