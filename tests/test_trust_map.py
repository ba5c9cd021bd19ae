"""The trust map, cell by cell, against the functions as deployed."""

import json

import pytest
from local.testing import FUNCTIONS, TRUST_MAP, is_let_in, succeeded
from names import LOGIN, SEARCH, USER_PROFILES

CALLERS = (None, "you", *FUNCTIONS)


@pytest.mark.deployed
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("caller", CALLERS)
def test_each_call_is_answered_as_the_map_says(project, caller, function):
    if not project.target and caller == "you" and function != LOGIN:
        pytest.skip("in the cloud, you may be an owner, who may call everything")
    answer = project.request("OPTIONS", function, caller=caller)
    if is_let_in(caller, function):
        assert answer.status_code == 200
        assert answer.json() == {}
    else:
        assert answer.status_code == 403
        assert "does not have permission to get URL <code>/</code>" in answer.text


@pytest.mark.deployed
def test_login_may_call_user_profiles(project):
    answer = project.request("GET", USER_PROFILES, "/profiles/nobody", caller=LOGIN)
    # user-profiles itself answers: in JSON, where the platform answers in HTML.
    assert answer.status_code == 404
    assert answer.json() == {"error": "There is no such profile."}


def test_the_map_says_what_this_sample_is_about():
    assert TRUST_MAP[USER_PROFILES] == {LOGIN}
    assert TRUST_MAP[SEARCH] == set()


@pytest.mark.deployed
def test_login_may_not_call_search(project):
    assert project.request("GET", SEARCH, "/?q=password", caller=LOGIN).status_code == 403


def test_the_printed_map_is_the_measured_one(project):
    lines = project.first_deploy.splitlines()
    printed = {line.split()[0]: line.split()[1:] for line in lines if " ok" in line}
    assert printed.keys() == {"anonymous", "you", *FUNCTIONS}
    for caller, cells in printed.items():
        expected = ["200" if is_let_in(caller, name) else "403" for name in FUNCTIONS]
        assert cells == " ok ".join([*expected, ""]).split()


def test_a_wrong_edge_is_named_and_fails_the_check(project, open_door):
    result = project.deploy_sh("verify")
    assert result.returncode == 1
    assert "200 WRONG" in result.stdout
    assert "login->search" in result.stderr


@pytest.mark.deployed
def test_login_is_refused_until_the_door_is_opened_and_again_when_it_is_closed(project, visitor):
    refused = visitor.search("password")
    assert refused.status_code == 403
    member = f"serviceAccount:{project.email(LOGIN)}"
    assert f"no binding of roles/run.invoker for {member}" in refused.json()["error"]

    flags = f"--member={member} --role=roles/run.invoker --region=$REGION"
    project.gcloud(f"run services add-iam-policy-binding search {flags}")
    try:
        found = project.eventually(lambda: visitor.search("password manager"), 200)
        assert [article["title"] for article in found.json()["results"]] == ["Choose a password"]
    finally:
        project.gcloud(f"run services remove-iam-policy-binding search {flags}")
    project.eventually(lambda: visitor.search("password"), 403)


def test_the_code_of_search_runs_only_where_it_is_let_in(project, visitor, open_door):
    before = project.log(SEARCH)
    assert visitor.search("password").status_code == 200
    assert project.request("GET", SEARCH, "/?q=password", caller=USER_PROFILES).status_code == 403
    ran = [line for line in project.log(SEARCH)[len(before) :].splitlines() if "Searching" in line]
    assert len(ran) == 1


def test_deploying_again_closes_every_opened_door(project, open_door, visitor):
    """Stray bindings, one of them of an account that is gone, on a function that does not change."""
    assert visitor.search("password").status_code == 200
    stray = {
        "roles/run.invoker": ["allUsers", "deleted:serviceAccount:old@example.com?uid=1"],
        "roles/run.admin": [f"serviceAccount:{project.email(LOGIN)}"],
    }
    bindings = [{"role": role, "members": members} for role, members in stray.items()]
    policy = json.dumps({"bindings": bindings})
    project.gcloud(f"run services set-iam-policy search /dev/stdin --region=$REGION <<< '{policy}'")
    assert project.request("OPTIONS", SEARCH, caller=None).status_code == 200
    assert project.deploy_sh().returncode == 0
    assert visitor.search("password").status_code == 403
    assert project.request("OPTIONS", SEARCH, caller=None).status_code == 403
    left = project.gcloud("run services get-iam-policy search --region=$REGION")
    assert "bindings" not in left


def test_public_opens_login_and_only_login_until_the_next_deploy(project):
    try:
        succeeded(project.deploy_sh("--public"))
        assert project.request("OPTIONS", LOGIN, caller=None).status_code == 200
        assert project.request("OPTIONS", USER_PROFILES, caller=None).status_code == 403
        assert project.request("OPTIONS", SEARCH, caller=None).status_code == 403
    finally:
        succeeded(project.deploy_sh())
    assert project.request("OPTIONS", LOGIN, caller=None).status_code == 403
