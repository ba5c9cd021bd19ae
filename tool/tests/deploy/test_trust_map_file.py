"""Errors in trust-map are named with the line, the column, and what is allowed."""

import os
import re
import shutil

import pytest

from tool.testing import ROOT, run

TEXT = """\
# function  invoked by  its account may use
front       you         -
back        front       firestore
closed      -           -
"""


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("front       firestore", "front, closed firestore", "line 3: it has 4 columns; three are needed"),
        ("closed      -           -", "closed -", "line 4: it has 2 columns; three are needed"),
        ("front       firestore", "frond       firestore", "line 3: column 2, frond: allowed are you, anonymous, functions"),
        ("front       firestore", "frond       firestore", "There is no such function; did you mean front?"),
        ("front       firestore", "front,      firestore", "line 3: column 2, nothing between two commas"),
        ("front       firestore", "-,front     firestore", "line 3: column 2, -: allowed are"),
        ("front       firestore", "allUsers    firestore", "line 3: column 2, allUsers: write anonymous for everyone; allowed are you, anonymous"),
        ("front       firestore", "front       firestor", "line 3: column 3, firestor: allowed are firestore, roles such as"),
        ("front       firestore", "front       roles/", "line 3: column 3, roles/: allowed are firestore"),
        ("closed      ", "front       ", "line 4: column 1, front: it has a line already, line 2"),
        ("closed      ", "Closed      ", "line 4: column 1, Closed: a function's name consists of a-z, 0-9 and -"),
        ("closed      ", "absent      ", "functions/closed has no line. To let nobody call it, add: closed  -  -"),
        (TEXT, "", "it has no line"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named_with_its_column_and_what_is_allowed(toy, old, new, message):
    assert old in TEXT
    (toy / "trust-map").write_text(TEXT.replace(old, new))
    refused = run(str(ROOT / "deploy.sh"), f"--app={toy}", "--local")
    assert refused.returncode == 1 and message in refused.stderr
    assert not (toy / ".local").exists()


@pytest.mark.parametrize(
    "name, message",
    [
        ("absent", "trust-map names absent, but there is no functions/absent/main.py"),
        ("builder", "builder cannot be a function's name: it is taken"),
        ("ab", "ab cannot be a function's name: it needs 3 to 27"),
        ("a" * 28, "cannot be a function's name: it needs 3 to 27"),
    ],
)
def test_a_name_that_cannot_be_is_refused(toy, name, message):
    (toy / "trust-map").write_text(TEXT + f"{name}  -  -\n")
    refused = run(str(ROOT / "deploy.sh"), f"--app={toy}", "--local")
    assert refused.returncode == 1 and message in refused.stderr


@pytest.mark.parametrize("verb", ["deploy", "diff", "destroy"])
@pytest.mark.parametrize("make", [lambda file: file.mkdir(), lambda file: file.write_text(TEXT, "utf-16"), os.mkfifo])
def test_a_map_that_is_no_text_is_named(toy, make, verb):
    (toy / "trust-map").unlink()
    make(toy / "trust-map")
    words = ("HEAD",) if verb == "diff" else ()
    said = run(str(ROOT / "deploy.sh"), f"--app={toy}", "--local", verb, *words)
    assert "Traceback" not in said.stderr
    assert said.stderr == ("deploy.sh: trust-map cannot be read as text in UTF-8\n" if verb == "deploy" else said.stderr)


def test_without_a_map_it_is_said_so(tmp_path):
    refused = run(str(ROOT / "deploy.sh"), f"--app={tmp_path}", "--local")
    assert refused.returncode == 1
    assert refused.stderr == f"deploy.sh: there is no trust-map in {tmp_path}\n"


def test_comments_blank_lines_and_line_ends_of_windows_mean_nothing(toy):
    text = TEXT.replace("\n", "  # why\n\n").replace("\n", "\r\n")
    (toy / "trust-map").write_bytes(text.encode())
    dry = run(str(ROOT / "deploy.sh"), f"--app={toy}", "--project=p-1", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert len(re.findall("^gcloud run deploy", dry.stdout, re.M)) == 3


def test_the_order_of_lines_means_nothing(toy):
    def commands():
        dry = run(str(ROOT / "deploy.sh"), f"--app={toy}", "--project=p-1", "--dry-run").stdout
        words = re.findall(r"^gcloud run services set-iam-policy.*|^echo .*policy.*", dry, re.M)
        return sorted(words)

    before = commands()
    lines = (toy / "trust-map").read_text().splitlines()
    (toy / "trust-map").write_text("\n".join(reversed(lines)))
    assert commands() == before and len(before) == 6


def test_members_go_into_the_policy_as_they_are(toy):
    members = "group:admins@example.com,serviceAccount:s@p.iam.gserviceaccount.com,domain:example.com,you"
    (toy / "trust-map").write_text(TEXT.replace("closed      - ", f"closed  {members} "))
    dry = run(str(ROOT / "deploy.sh"), f"--app={toy}", "--project=p-1", "--dry-run").stdout
    [policy] = re.findall(r"^echo (.*) > \.build/closed\.policy\.json", dry, re.M)
    for member in members.removesuffix(",you").split(","):
        assert member in policy
    assert "$YOU" in policy


def test_an_app_without_the_tool_s_folder_is_deployed_from_where_it_is(toy, tmp_path):
    elsewhere = shutil.copytree(toy, tmp_path / "o'brien & söhne")
    dry = run(str(ROOT / "deploy.sh"), f"--app={elsewhere}", "--project=p-1", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert (elsewhere / ".build" / "front" / "main.py").exists()
