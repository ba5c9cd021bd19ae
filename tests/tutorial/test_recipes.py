"""RECIPES.md: each recipe is performed in a copy, step by step; then the copy's tests are run."""

import re
import shutil
import subprocess
import textwrap

import pytest

from local.testing import ROOT, run, succeeded

RECIPES = (ROOT / "RECIPES.md").read_text()
HEADINGS = [h for h in re.findall(r"^\*\*(.+?)\*\*", RECIPES, re.M) if h != "Before each of them"]


def steps(heading):
    """(sentence, code) of each numbered step under a bold heading."""
    section = RECIPES.partition(f"**{heading}**")[2].partition("\n**")[0]
    for step in re.split(r"^\d\. ", section, flags=re.M)[1:]:
        sentence, _, rest = step.partition("\n\n")
        code = rest.partition("   ```")[2].partition("\n")[2].partition("   ```")[0]
        yield " ".join(sentence.split()), textwrap.dedent(code)


def perform(clone, sentence, code):
    """Does what a step says, as a person would."""
    names = re.findall(r"`([^`]+)`", sentence)
    files = [clone.root / name for name in names]
    if sentence.startswith("Create "):
        files[0].parent.mkdir(parents=True, exist_ok=True)
        files[0].write_text(code)
    elif sentence.startswith("Write "):
        assert files[0].exists()
        files[0].write_text(code)
    elif sentence.startswith("Delete "):
        for file in files:
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    elif sentence.startswith("Rename "):
        files[0].rename(files[1])
    elif sentence.startswith("Run "):
        assert names[0].startswith("./deploy.sh ")
        succeeded(clone.deploy_sh(*names[0].split()[1:]))
    elif ", add the line:" in sentence:
        files[0].write_text(files[0].read_text() + code)
    elif ", delete the line " in sentence:
        left, deleted = re.subn(rf"^{names[1]}\b.*\n", "", files[0].read_text(), flags=re.M)
        assert deleted == 1
        files[0].write_text(left)
    elif ", replace " in sentence:
        *_, old, new = names
        for file in files[:-2]:
            replaced, times = re.subn(rf"\b{old}\b", new, file.read_text())
            assert times, file
            file.write_text(replaced)
    else:
        pytest.fail(f"no such step: {sentence}")


def follow(heading, clone):
    done = list(steps(heading))
    assert done
    for sentence, code in done:
        perform(clone, sentence, code)


def outcome_of_tests(clone, *words):
    """What tests/run says in the copy, without colours."""
    env = {k: v for k, v in clone.env.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        [str(clone.root / "tests" / "run"), "-q", *words],
        env=env,
        cwd=clone.root,
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=3600,  # what hangs is a failure
    )
    return succeeded(done).stdout


def test_the_recipes_are_the_promised_ones():
    assert HEADINGS == [
        "Add a function",
        "Leave out the demo page",
        "Leave out search",
        "Rename",
        "Start your own app",
    ]


@pytest.mark.long
@pytest.mark.parametrize("heading", HEADINGS[::-1])
def test_after_a_recipe_the_tests_are_green(heading, clone, full, record_property):
    """Of the real fork all tests run, the tool's included; of the others the app's, or all with --full."""
    follow("Before each of them", clone)
    follow(heading, clone)
    clone.end()
    for part in ("deploy.sh", "deploy", "local"):
        assert run("diff", "-r", "-x", "__pycache__", ROOT / part, clone.root / part).stdout == ""
    whole = full or heading == "Start your own app"
    options = ["--full"] if full else []
    said = outcome_of_tests(clone, *(["-n3", *options] if whole else ["-n0", "tests"]))
    record_property(heading, said.splitlines()[-1].strip(" ="))
    skipped = re.findall(r"^SKIPPED .*", said, re.M)
    assert all("left out: " in line for line in skipped), skipped
    # What the recipe took out is gone from every file that a deploy reads.
    gone = {"Leave out search": "search", "Rename": "login", "Start your own app": "login|profiles"}
    if heading in gone:
        app = [clone.root / "trust-map", *(clone.root / "functions").rglob("*.py")]
        found = [f for f in app if re.search(rf"\b({gone[heading]})\b(?! in| asks)", f.read_text())]
        assert not found or heading != "Start your own app", found


def test_an_added_function_can_be_called_as_the_map_says(clone):
    follow("Add a function", clone)
    clone.enter()
    assert clone.request("GET", "login", "/quote").json().keys() == {"quote"}
    assert clone.request("GET", "quotes", caller="login").status_code == 200
    for caller in ("user-profiles", "search", "you", None):
        assert clone.request("GET", "quotes", caller=caller).status_code == 403
    assert clone.request("GET", "search", caller="quotes").status_code == 403


def test_the_real_fork_works(clone):
    follow("Before each of them", clone)
    follow("Start your own app", clone)
    clone.enter()
    ordered = clone.request("POST", "orders", "/tea")
    assert (ordered.status_code, ordered.json()) == (201, {"ordered": "tea", "left": 7})
    assert clone.request("GET", "stock", "/tea").status_code == 403


def test_the_tool_knows_no_function_of_this_app_by_name():
    names = r"user.profiles|\bsearch\b|\blogin\b(?!_|-)"
    tool = [ROOT / "deploy.sh", *(ROOT / "deploy").rglob("*"), *(ROOT / "local").rglob("*")]
    for file in tool:
        if (
            file.suffix in (".py", ".sh", ".awk", ".txt", "")
            and file.is_file()
            and "tests" not in file.parts
        ):
            for line in file.read_text(errors="replace").splitlines():
                if (
                    re.search(names, line)
                    and "gcloud auth login" not in line
                    and "re.search(" not in line
                ):
                    pytest.fail(f"{file.relative_to(ROOT)}: {line}")
