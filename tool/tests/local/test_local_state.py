"""The files of the local project: those of an earlier version are used; an incomplete one counts as missing."""

import json

import pytest

from tool.testing import succeeded
from toys import Local, call

GOOD = "def entry(request):\n    return 'good'\n"

# The form that the first version with these files wrote, and a key that no version knows.
SERVICE = {
    "ingress": "all", "labels": {"made-by": "me"}, "open": False, "number": 1, "ready": "inner-00001-abc",
    "account": "inner-sa@local-project.iam.gserviceaccount.com", "created": "inner-00001-abc",
    "deployed": "2026-05-01T10:00:00+00:00", "problem": None, "later": "unknown",
}  # fmt: skip
REVISION = {
    "service": "inner", "entry": "entry", "account": SERVICE["account"], "variables": {"A": "1"},
    "secrets": {"KEY": "a-key:latest"}, "concurrency": 8, "max_instances": 2, "places": 16, "timeout": 60,
    "deployed": SERVICE["deployed"], "environment": "/nowhere", "later": "unknown",
}  # fmt: skip
CONDITION = {"title": "mine", "expression": "true"}
BINDINGS = [
    {"role": "roles/run.invoker", "members": ["allUsers"]},
    {"role": "roles/run.viewer", "members": ["user:you@example.com"], "condition": CONDITION},
]


def write(local, name, content):
    file = local.state / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))


def read(local, name):
    return json.loads((local.state / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A local project with the files of an earlier version."""
    earlier = Local(tmp_path_factory.mktemp("earlier"))
    try:
        earlier.up("inner")
        write(earlier, "services/inner", read(earlier, "services/inner") | SERVICE)
        write(earlier, "revisions/inner-00001-abc", REVISION)
        write(earlier, "policies/inner", {"bindings": BINDINGS, "before": [], "from": 1})
        account = {"kind": "serviceAccount", "email": SERVICE["account"], "uniqueId": "1" * 21}
        write(earlier, f"accounts/{SERVICE['account']}", account | {"later": "unknown"})
        yield earlier
    finally:
        earlier.end()


def test_what_an_earlier_version_wrote_is_read(earlier):
    shown = json.loads(earlier.gcloud("run services describe inner REGION --format=json"))
    assert shown["metadata"]["labels"]["made-by"] == "me"
    spec = shown["spec"]["template"]["spec"]
    assert (spec["containerConcurrency"], spec["timeoutSeconds"]) == (8, 60)
    assert {"name": "A", "value": "1"} in spec["containers"][0]["env"]
    assert shown["status"]["latestReadyRevisionName"] == "inner-00001-abc"
    policy = json.loads(earlier.gcloud("run services get-iam-policy inner REGION --format=json"))
    assert policy["bindings"] == BINDINGS
    [account] = json.loads(earlier.gcloud("iam service-accounts list --format=json"))
    assert account["uniqueId"] == "1" * 21


def test_what_is_changed_keeps_the_keys_that_it_had(earlier):
    before = read(earlier, "services/inner")
    earlier.gcloud("run services update inner REGION --update-labels=made-by=you")
    after = read(earlier, "services/inner")
    assert after["labels"] == {"made-by": "you"}
    assert set(before) - set(after) <= {"later", "problem"}  # there is no problem
    earlier.up("inner", "another")
    assert read(earlier, "services/inner")["port"] == before["port"]


@pytest.mark.parametrize("half", ["", '{"port": 2', "[]", "null", '"text"'])
def test_half_a_file_is_read_as_none(other, half):
    other.up("inner")
    for name in ("services/inner", "policies/inner", "accounts/a@b.c", "revisions/inner-1"):
        write(other, name, half)
    assert "Cannot find service" in other.refused("run services describe inner REGION")
    assert other.gcloud("iam service-accounts list --format='value(email)'") == ""
    other.up("inner")  # gives it ports again
    assert call(other.url("inner")).status_code == 404
    succeeded(other.deploy("inner", GOOD, entry="entry"))
    assert call(other.url("inner")).status_code == 403
