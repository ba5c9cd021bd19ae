"""What a fork relies on: the locked dependencies, and the steps of "Make it yours" in README.md."""

import importlib.metadata
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

WANTED = {  # and what it is wanted for stands beside it there
    "requirements.txt": ("functions-framework", "flask", "google-auth", "requests"),
    "functions/user_profiles/requirements.txt": ("google-cloud-firestore",),
    "tests/requirements.txt": ("pytest", "hypothesis"),
}


def pins(*files):
    """What these files lock and what applies to this Python: name to requirement."""
    lines = [
        line.partition("#")[0] for file in files for line in (ROOT / file).read_text().splitlines()
    ]
    found = [Requirement(line) for line in lines if line.strip()]
    return {canonicalize_name(r.name): r for r in found if not r.marker or r.marker.evaluate()}


def needs(requirement):
    """The names of all packages that come with a requirement, itself among them."""
    names = {canonicalize_name(requirement.name)}
    for line in importlib.metadata.distribution(requirement.name).requires or ():
        needed = Requirement(line)
        extras = ("", *requirement.extras)
        if not needed.marker or any(needed.marker.evaluate({"extra": e}) for e in extras):
            names |= needs(needed)
    return names


@pytest.mark.parametrize("files", [list(WANTED)[:1], list(WANTED)[:2], list(WANTED)])
def test_everything_that_is_needed_is_locked_and_nothing_else(files):
    locked = pins(*files)
    for name, pin in locked.items():
        assert re.fullmatch("==[^*]+", str(pin.specifier)), f"{name} is not locked"
        assert importlib.metadata.version(name) in pin.specifier
    wanted = [Requirement(name) for file in files for name in WANTED[file]]
    assert locked.keys() == set().union(*map(needs, wanted))


def test_no_requirement_contradicts_another():
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
