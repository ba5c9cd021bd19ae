"""What a fork relies on: the locked dependencies, and the steps of "Make it yours" in README.md."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import textwrap

import pytest
from conftest import ROOT, LocalProject, run, succeeded
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_readme import README, copy_of_the_repository

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


# ---- "Make it yours" in README.md, step by step


def steps(heading):
    """(sentence, code) of each numbered step under a bold heading."""
    section = README.partition("## Make it yours")[2].partition("\n## ")[0]
    section = section.partition(f"**{heading}**")[2].partition("\n**")[0]
    for step in re.split(r"^\d\. ", section, flags=re.M)[1:]:
        sentence, _, code = step.partition("\n\n   ```")
        code = code.partition("\n")[2].partition("   ```")[0]
        yield " ".join(sentence.split()), textwrap.dedent(code)


def perform(folder, sentence, code):
    """Does what a step says, as a person would."""
    names = re.findall(r"`([^`]+)`", sentence)
    files = [folder / name for name in names]
    if sentence.startswith("Create "):
        files[0].parent.mkdir()
        files[0].write_text(code)
    elif sentence.startswith("Delete "):
        for file in files:
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    elif sentence.startswith("Rename "):
        files[0].rename(files[1])
    elif sentence.startswith("Run "):
        words = names[0].split()
        succeeded(run(str(folder / words[0]), *words[1:], env=clean_environment()))
    elif ", add to the trust map:" in sentence:
        before, name, after = files[0].read_text().partition("TRUST_MAP='\n")
        files[0].write_text(before + name + textwrap.indent(code, "    ") + after)
    elif ", add above " in sentence:
        before, mark, after = files[0].read_text().partition(names[1])
        assert mark
        files[0].write_text(f"{before}{code}\n\n{mark}{after}")
    elif ", delete the line " in sentence:
        left, deleted = re.subn(rf"^ +{names[1]} .*\n", "", files[0].read_text(), flags=re.M)
        assert deleted == 1
        files[0].write_text(left)
    elif ", delete the part " in sentence:
        before, mark, part = files[0].read_text().partition(names[1])
        assert mark
        following = re.search("^# ----", part, re.M)
        files[0].write_text(before + (part[following.start() :] if following else ""))
    elif ", replace " in sentence:
        *_, old, new = names
        for file in files[:-2]:
            replaced, times = re.subn(rf"\b{old}\b", new, file.read_text())
            assert times
            file.write_text(replaced)
    else:
        pytest.fail(f"no such step: {sentence}")


def clean_environment():
    return {k: v for k, v in os.environ.items() if not k.startswith(("GCE_", "LOCAL_"))}


@pytest.fixture
def fork(tmp_path):
    """A copy of the repository, to be changed."""
    folder = copy_of_the_repository(tmp_path / "fork")
    fork = LocalProject(folder / ".local", folder)
    fork.env = clean_environment()

    def follow(heading):
        done = list(steps(heading))
        assert done
        for sentence, code in done:
            perform(folder, sentence, code)

    fork.follow = follow
    yield fork
    fork.deploy_sh("destroy")


def test_a_function_is_added_by_the_steps_of_the_readme(fork):
    fork.follow("Add a function")
    measured = succeeded(fork.deploy_sh("verify")).stdout
    rows = {line.split()[0]: line.split()[1:] for line in measured.splitlines() if " ok" in line}
    [heading] = [line.split() for line in measured.splitlines() if line.split()[-1:] == ["search"]]
    column = heading.index("quotes")
    assert {caller: cells[2 * column] for caller, cells in rows.items()} == {
        "anonymous": "403",
        "you": "403",
        "login": "200",
        "user-profiles": "403",
        "search": "403",
        "quotes": "403",
    }
    fork.enter()
    assert fork.request("GET", "login", "/quote").json().keys() == {"quote"}
    assert fork.request("GET", "quotes", caller="login").status_code == 200
    assert fork.request("GET", "quotes", caller="user-profiles").status_code == 403
    assert fork.request("GET", "search", caller="quotes").status_code == 403


def test_the_demo_is_taken_out_by_the_steps_of_the_readme(fork):
    fork.follow("Leave out the demo page")
    fork.follow("Leave out search")
    deployed = succeeded(fork.deploy_sh())
    assert "search" not in deployed.stdout
    fork.enter()
    assert fork.request("GET", "login").status_code == 405

    fork.follow("Rename")
    fork.tokens.clear()  # they were of the project that is gone
    deployed = succeeded(fork.deploy_sh())
    assert "login" not in deployed.stdout
    fork.enter()
    account = {"username": "ada", "password": "a pass phrase", "display_name": "Ada"}
    assert fork.request("POST", "front", "/signup", json=account).status_code == 201
    assert fork.request("GET", "user-profiles", "/profiles/ada", caller="front").status_code == 200
    assert fork.request("GET", "user-profiles", "/profiles/ada", caller="you").status_code == 403


def test_two_copies_live_in_one_project_by_their_prefix(fork):
    script = fork.root / "deploy.sh"
    script.write_text(script.read_text().replace("PREFIX=''", "PREFIX='team-'"))
    measured = succeeded(fork.deploy_sh()).stdout
    assert "  team-user-profiles   serviceAccount:team-login@local-project" in measured
    fork.enter()
    assert fork.request("OPTIONS", "login").status_code == 200
    page = fork.request("GET", "login").text
    assert 'data-prefix="team-"' in page
    # Nothing that it makes, or removes, has the name of the other copy's.
    for verb in ("deploy", "destroy"):
        words = (str(script), verb, "--dry-run", "--delete-data", "--project=p", "--region=r")
        changes = succeeded(run(*words, env=fork.env)).stdout
        changes = re.sub(r"--entry-point=\w+", "", changes)
        assert re.search("team-login|team-builder|team-profiles", changes)
        assert not re.search(r"(?<!team-)\b(login|user-profiles|search|builder)[ @\-.]", changes)
        assert not re.search(r"databases?[ /=]+(--database=)?profiles|made-by=function", changes)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("    search ", "    Search ", "Search cannot be a name: 3 to 30 of a-z, 0-9 and -"),
        ("    search ", "    missing ", "there is no functions/missing/main.py"),
        (" login        firestore", " logon        firestore", "the trust map lets logon call"),
    ],
)
def test_a_wrong_line_of_the_map_is_named(fork, old, new, message):
    script = fork.root / "deploy.sh"
    assert old in script.read_text()
    script.write_text(script.read_text().replace(old, new))
    refused = fork.deploy_sh()
    assert refused.returncode == 1
    assert message in refused.stderr
    assert not fork.state.exists()
