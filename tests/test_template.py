"""What a fork relies on: the locked dependencies, and the steps of "Make it yours" in README.md."""

import importlib.metadata
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap

import pytest
from local.testing import ROOT, run, succeeded
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_readme import README

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
        sentence, _, rest = step.partition("\n\n")
        code = rest.partition("   ```")[2].partition("\n")[2].partition("   ```")[0]
        yield " ".join(sentence.split()), textwrap.dedent(code)


def perform(clone, sentence, code):
    """Does what a step says, as a person would."""
    names = re.findall(r"`([^`]+)`", sentence)
    files = [clone.root / name for name in names]
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
        return succeeded(run(str(clone.root / words[0]), *words[1:], env=clone.env)).stdout
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
        for file in filter(pathlib.Path.exists, files[:-2]):
            replaced, times = re.subn(rf"\b{old}\b", new, file.read_text())
            assert times
            file.write_text(replaced)
    else:
        pytest.fail(f"no such step: {sentence}")


def follow(heading, clone):
    done = list(steps(heading))
    assert done
    return [perform(clone, sentence, code) for sentence, code in done]


def test_a_function_is_added_by_the_steps_of_the_readme(clone):
    *_, measured = follow("Add a function", clone)
    lines = [line.split() for line in measured.splitlines() if line]
    column = next(line for line in lines if line[0] == "quotes").index("quotes")
    answers = {line[0]: line[1 + 2 * column] for line in lines if "ok" in line}
    assert answers.pop("login") == "200"
    assert answers.keys() >= {"anonymous", "you", "user-profiles", "search", "quotes"}
    assert set(answers.values()) == {"403"}
    clone.enter()
    assert clone.request("GET", "login", "/quote").json().keys() == {"quote"}
    assert clone.request("GET", "quotes", caller="login").status_code == 200
    assert clone.request("GET", "quotes", caller="user-profiles").status_code == 403
    assert clone.request("GET", "search", caller="quotes").status_code == 403


def test_the_demo_is_taken_out_by_the_steps_of_the_readme(clone):
    follow("Leave out the demo page", clone)
    follow("Leave out search", clone)
    follow("Rename", clone)
    set_prefix(clone)
    deployed = succeeded(clone.deploy_sh())
    assert "login" not in deployed.stdout and "search" not in deployed.stdout
    assert "  team-user-profiles   serviceAccount:team-front@local-project" in deployed.stdout
    clone.enter()
    assert clone.request("GET", "front").status_code == 405
    account = {"username": "ada", "password": "a pass phrase", "display_name": "Ada"}
    assert clone.request("POST", "front", "/signup", json=account).status_code == 201
    assert clone.request("GET", "user-profiles", "/profiles/ada", caller="front").status_code == 200
    assert clone.request("GET", "user-profiles", "/profiles/ada", caller="you").status_code == 403


def set_prefix(clone):
    script = clone.root / "deploy.sh"
    script.write_text(script.read_text().replace("PREFIX=''", "PREFIX='team-'"))


@pytest.mark.parametrize("verb", ["deploy", "destroy"])
def test_a_prefix_keeps_two_copies_in_one_project_apart(clone, verb):
    set_prefix(clone)
    clone.target = ("--project=p", "--region=r", "--dry-run", "--delete-data")
    changes = re.sub(r"--entry-point=\w+", "", succeeded(clone.deploy_sh(verb)).stdout)
    assert "team-login" in changes and "team-builder" in changes and "=team-profiles" in changes
    assert not re.search(r"(?<!team-)\b(login|user-profiles|search|builder)[ @\-.]", changes)
    assert not re.search(r"=profiles|/profiles|=function-trust-map", changes)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("    search ", "    Search ", "Search cannot be a name: 3 to 30 of a-z, 0-9 and -"),
        ("    search ", "    missing ", "there is no functions/missing/main.py"),
        (" login        firestore", " logon        firestore", "the trust map lets logon call"),
        (" login        firestore", " lo.in        firestore", "the trust map lets lo.in call"),
        (
            " login        firestore",
            " login        fireStore",
            "incomplete, not known or there twice",
        ),
        ("  256Mi   1\n", "  256Mi\n", "incomplete, not known or there twice"),
        ("    search ", "    login  ", "incomplete, not known or there twice"),
        ("    search ", "    builder", "builder cannot be a name: it is taken"),
    ],
)
def test_a_wrong_line_of_the_map_is_named(clone, old, new, message):
    script = clone.root / "deploy.sh"
    assert old in script.read_text()
    script.write_text(script.read_text().replace(old, new))
    refused = clone.deploy_sh()
    assert refused.returncode == 1
    assert message in refused.stderr
    assert not clone.state.exists()
