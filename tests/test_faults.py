"""What deploy.sh makes of a cloud that fails as the cloud does."""

import pytest
from names import LOGIN, SEARCH, USER_PROFILES

from local import project as state


@pytest.fixture
def faults(project, monkeypatch):
    """Plans failures of gcloud commands: (regular expression, how often, what it says)."""
    monkeypatch.setattr(state, "STATE", project.state)

    def plan(*planned):
        state.write("faults", [{"match": m, "times": n, "error": e} for m, n, e in planned])

    yield plan
    state.write("faults", [])
    state.write("propagation", 0)
    binding = '{"role": "roles/run.invoker", "members": ["user:you@example.com"]}'
    project.gcloud(
        "run services set-iam-policy login /dev/stdin --region=$REGION"
        f" <<< '{{\"bindings\": [{binding}]}}'"
    )


@pytest.fixture(scope="module", autouse=True)
def put_right(project):
    """What these tests leave behind is what the next deploy has to cope with."""
    yield
    assert project.deploy_sh().returncode == 0


def left():
    return [fault["times"] for fault in state.read("faults")]


def open_to_all(project, name):
    project.gcloud(
        f"run services add-iam-policy-binding {name} --member=allUsers --role=roles/run.invoker"
        " --region=$REGION"
    )


def delete(project, *names):
    for name in names:
        project.gcloud(f"functions delete {name} --region=$REGION")


def test_what_passes_by_itself_is_waited_out(project, faults):
    delete(project, LOGIN, SEARCH, USER_PROFILES)
    faults(
        (
            "functions deploy search",
            1,
            "INVALID_ARGUMENT: Service account search@… does not exist.",
        ),
        ("functions deploy login", 1, "ResponseError: status=[409], unable to queue the operation"),
        ("functions deploy user-prof", 1, "Permission 'iam.serviceaccounts.actAs' denied"),
        ("set-iam-policy login", 1, "ABORTED: There were concurrent policy changes."),
        ("set-iam-policy user-prof", 1, "HTTPError 429: Quota exceeded for quota metric"),
    )
    deployed = project.deploy_sh()
    assert deployed.returncode == 0, deployed.stderr
    assert left() == [0] * 5
    for reason in ("new account to be known", "another change to end", "quota of an API"):
        assert reason in deployed.stderr


def test_what_does_not_pass_is_named_and_the_others_are_deployed(project, faults):
    delete(project, SEARCH, USER_PROFILES)
    open_to_all(project, LOGIN)
    denied = "PERMISSION_DENIED: Permission 'cloudfunctions.functions.create' denied on 140942900"
    failed = "OperationError: code=3, message=Build failed with status: FAILURE"
    faults(("functions deploy search", 9, denied), ("functions deploy user-profiles", 9, failed))
    deployed = project.deploy_sh()
    assert deployed.returncode == 1
    assert denied in deployed.stderr and failed in deployed.stderr
    for name in (SEARCH, USER_PROFILES):
        assert (
            f"{name} is not deployed. Its log: gcloud functions logs read {name}" in deployed.stderr
        )
    assert "not everything is deployed" in deployed.stderr
    assert left() == [8, 8]  # nothing was tried again in vain
    assert "login is deployed." in deployed.stdout
    assert project.request("OPTIONS", LOGIN, caller=None).status_code == 403


def test_a_policy_that_cannot_be_set_fails_the_deploy(project, faults):
    open_to_all(project, LOGIN)
    faults(("set-iam-policy login", 9, "PERMISSION_DENIED: run.services.setIamPolicy denied"))
    failed = project.deploy_sh()
    assert failed.returncode == 1
    assert "run.services.setIamPolicy denied" in failed.stderr


def test_where_the_organisation_forbids_all_users_the_rest_is_deployed(project, faults):
    error = "FAILED_PRECONDITION: One or more users named in the policy do not belong to a permitted customer."
    faults(("set-iam-policy login", 1, error))
    open_to_all(project, SEARCH)
    deployed = project.deploy_sh("--public")
    assert deployed.returncode == 1
    assert "login stays private: your organisation forbids allUsers" in deployed.stderr
    for name in (LOGIN, USER_PROFILES, SEARCH):
        assert project.request("OPTIONS", name, caller=None).status_code == 403
    assert project.request("OPTIONS", LOGIN, caller="you").status_code == 200


EMPTY_POLICY = "run services set-iam-policy user-profiles /dev/stdin --region=$REGION <<< '{}'"


def deploy_where_a_binding_takes(seconds, project, patience, monkeypatch):
    project.gcloud(EMPTY_POLICY)
    state.write("propagation", seconds)
    monkeypatch.setitem(project.env, "PATIENCE", patience)
    return project.deploy_sh()


def test_a_binding_that_takes_time_is_waited_for(project, faults, monkeypatch):
    deployed = deploy_where_a_binding_takes(1.5, project, "30", monkeypatch)
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    assert "waiting for user-profiles to let login in" in deployed.stderr


def test_a_binding_that_does_not_come_is_named(project, faults, monkeypatch):
    deployed = deploy_where_a_binding_takes(600, project, "1", monkeypatch)
    assert deployed.returncode == 1
    assert "login->user-profiles" in deployed.stderr
    state.write("propagation", 0)
    project.gcloud(EMPTY_POLICY)
