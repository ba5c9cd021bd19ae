"""What --format=json prints: the same paths and types as in gcloud, and no others."""

import json
import re

import pytest

from tool.local.runtime.instance import entry_in
from tool.testing import succeeded

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"
PROJECT, REGION = "local-project", "us-central1"


@pytest.fixture(scope="module")
def read(local):
    return local.read


@pytest.fixture(scope="module")
def number(read):
    return read(f"projects describe {PROJECT}")["projectNumber"]


@pytest.fixture(scope="module")
def shown(local):
    """Deploys a service with everything that a deploy can give it."""
    local.up("shown")
    local.gcloud("iam service-accounts create shown-sa --display-name=shown --description=mine")
    local.secrets.mkdir(exist_ok=True)
    (local.secrets / "a-key").write_text("value")
    reader = "roles/secretmanager.secretAccessor"
    words = f"a-key --member={local.member('shown')} --role={reader}"
    local.gcloud(f"secrets add-iam-policy-binding {words}")
    flags = ("--set-env-vars=A=1", "--set-secrets=KEY=a-key:latest", "--labels=made-by=me", "--timeout=60",
             "--concurrency=8", "--max-instances=3", "--invoker-iam-check", "--revision-suffix=mine")  # fmt: skip
    code = "def entry(request):\n    return 'good'\n"
    succeeded(local.deploy("shown", code, *flags, entry="entry"))
    yield
    local.gcloud("run services delete shown REGION --quiet")
    local.gcloud("secrets delete a-key --quiet")


def without_times(content):
    """The same without the times; checks that they are in the format of Google's APIs."""
    if isinstance(content, list):
        return [without_times(one) for one in content]
    if not isinstance(content, dict):
        return content
    for name in {"creationTimestamp", "lastTransitionTime", "createTime"} & content.keys():
        assert re.fullmatch(TIME, content.pop(name))
    return {name: without_times(one) for name, one in content.items()}


def spec(local):
    secret = {"secretKeyRef": {"key": "latest", "name": "a-key"}}
    env = [{"name": "A", "value": "1"}, {"name": "KEY", "valueFrom": secret}]
    return {
        "containerConcurrency": 8,
        "containers": [{"env": env}],
        "serviceAccountName": local.email("shown"),
        "timeoutSeconds": 60,
    }


def test_a_service(local, read, shown, number):
    url = local.url("shown")
    service = read("run services describe shown REGION")
    assert service in read("run services list")
    revision = "shown-mine"
    traffic = {"latestRevision": True, "percent": 100}
    assert without_times(service) == {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {
            "annotations": {
                "run.googleapis.com/ingress": "all",
                "run.googleapis.com/invoker-iam-disabled": "False",
                "run.googleapis.com/urls": f'["{url}"]',
                "serving.knative.dev/creator": "you@example.com",
                "serving.knative.dev/lastModifier": "you@example.com",
            },
            "generation": 1,
            "labels": {"cloud.googleapis.com/location": REGION, "made-by": "me"},
            "name": "shown",
            "namespace": number,
        },
        "spec": {
            "template": {
                "metadata": {"labels": {"made-by": "me"}, "name": revision},
                "spec": spec(local),
            },
            "traffic": [traffic],
        },
        "status": {
            "address": {"url": url},
            "conditions": [
                {"status": "True", "type": kind}
                for kind in ("Ready", "ConfigurationsReady", "RoutesReady")
            ],
            "latestCreatedRevisionName": revision,
            "latestReadyRevisionName": revision,
            "observedGeneration": 1,
            "traffic": [{**traffic, "revisionName": revision}],
            "url": url,
        },
    }


def test_a_service_that_never_started(local, read):
    local.up("broken")
    assert local.deploy("broken", "raise OSError('no')\n").returncode == 1
    service = read("run services describe broken REGION")
    local.gcloud("run services delete broken REGION --quiet")
    annotations, status = service["metadata"]["annotations"], service["status"]
    assert "run.googleapis.com/invoker-iam-disabled" not in annotations  # no flag set it
    assert "latestReadyRevisionName" not in status
    template = service["spec"]["template"]
    assert "name" not in template["metadata"]  # Cloud Run chose it
    assert template["spec"]["containers"] == [{}]
    ready = status["conditions"][0]
    assert (ready["type"], ready["status"]) == ("Ready", "False")
    assert ready["reason"] == "HealthCheckContainerError" and "OSError: no" in ready["message"]
    assert status["traffic"][0]["revisionName"] == status["latestCreatedRevisionName"]


def test_revisions(local, read, shown, number):
    [revision] = read("run revisions list --service=shown REGION")
    assert without_times(revision) == {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Revision",
        "metadata": {
            "labels": {
                "cloud.googleapis.com/location": REGION,
                "serving.knative.dev/service": "shown",
            },
            "name": "shown-mine",
            "namespace": number,
        },
        "spec": spec(local),
        "status": {
            "conditions": [
                {"status": "True", "type": "Ready"},
                {"status": "True", "type": "Active"},
            ]
        },
    }


def test_policies(local, read, shown):
    assert read("run services get-iam-policy shown REGION") == {"etag": "ACAB"}  # never set
    change = "shown REGION --member=user:you@example.com --role=roles/run.viewer"
    plain = {"members": ["user:you@example.com"], "role": "roles/run.viewer"}
    policy = read(f"run services add-iam-policy-binding {change}")
    assert (policy["bindings"], policy["version"]) == ([plain], 1)
    condition = {"description": "d", "expression": "true", "title": "t"}
    flag = "--condition='title=t,expression=true,description=d'"
    policy = read(f"run services add-iam-policy-binding {change} {flag}")
    assert policy["bindings"] == [plain, {**plain, "condition": condition}]
    assert policy["version"] == 3 and isinstance(policy["etag"], str)
    policy = read(f"run services remove-iam-policy-binding {change} --all")
    assert "bindings" not in policy and policy["version"] == 1
    above = read(f"projects get-ancestors-iam-policy {PROJECT}")
    assert above == [
        {"id": PROJECT, "policy": read(f"projects get-iam-policy {PROJECT}"), "type": "project"}
    ]


def test_a_policy_that_was_never_set_is_set_from_a_file(local, tmp_path):
    """As somebody does who reads the policy, changes it, and sets it."""
    file = tmp_path / "policy.json"
    email = local.email("closed")
    words = f"iam service-accounts set-iam-policy {email} {file}"
    file.write_text('{"etag": "ACAB", "bindings": []}')
    local.gcloud(words)
    assert "concurrent policy changes" in local.refused(words)


def test_accounts(local, read, shown):
    account = read(f"iam service-accounts describe {local.email('shown')}")
    unique_id = account["uniqueId"]
    assert re.fullmatch(r"\d{21}", unique_id)
    assert account == {
        "description": "mine",
        "displayName": "shown",
        "email": local.email("shown"),
        "name": f"projects/{PROJECT}/serviceAccounts/{local.email('shown')}",
        "oauth2ClientId": unique_id,
        "projectId": PROJECT,
        "uniqueId": unique_id,
    }
    accounts = read("iam service-accounts list")
    assert {"disabled": False, **account} in accounts
    [bare] = [one for one in accounts if one["email"] == local.email("inner")]
    assert not {"description", "displayName"} & bare.keys()


def test_the_project_and_who_is_logged_in(local, read, number):
    assert re.fullmatch(r"\d{12}", number)
    assert read(f"projects describe {PROJECT}") == {
        "lifecycleState": "ACTIVE", "name": PROJECT, "projectId": PROJECT, "projectNumber": number,
    }  # fmt: skip
    assert read("auth list") == [{"account": "you@example.com", "status": "ACTIVE"}]
    assert read("auth list --filter=status:OTHER") == []
    assert read("config list") == {
        "core": {"account": "you@example.com", "project": PROJECT},
        "run": {"region": REGION},
    }
    assert read("version")["Google Cloud SDK"] == "528.0.0"


def test_apis(local, read, number):
    local.gcloud("services enable run.googleapis.com")
    assert {
        "config": {"name": "run.googleapis.com"},
        "name": f"projects/{number}/services/run.googleapis.com",
        "parent": f"projects/{number}",
        "state": "ENABLED",
    } in read("services list --enabled")


def test_roles(local, read):
    role = read("iam roles describe roles/run.servicesInvoker")
    assert role["includedPermissions"] == ["run.routes.invoke"]
    local.gcloud(f"iam roles create nothing --project={PROJECT}")
    name = f"projects/{PROJECT}/roles/nothing"
    described = read(f"iam roles describe nothing --project={PROJECT}")
    assert described["name"] == name and "includedPermissions" not in described


def test_secrets(local, read, shown, number):
    secret = read("secrets describe a-key")
    assert secret in read("secrets list")
    assert without_times(secret) == {"name": f"projects/{number}/secrets/a-key"}


def test_log_entries(local, read, shown):
    (local.state / "logs" / "shown.log").write_text(
        '{"message": "one", "time": "2026-05-01T10:00:00.5+00:00", "severity": "ERROR"}\n'
        '{"message": "two", "time": "2026-05-01T10:00:01Z"}\n'
    )
    labels = {"configuration_name": "shown", "service_name": "shown"}
    resource = {
        "labels": {**labels, "location": REGION, "project_id": PROJECT},
        "type": "cloud_run_revision",
    }
    two = {"resource": resource, "textPayload": "two", "timestamp": "2026-05-01T10:00:01Z"}
    one = {"resource": resource, "textPayload": "one", "timestamp": "2026-05-01T10:00:00.5Z"}
    assert read("logging read 'resource.labels.service_name=shown'") == [
        two,
        {**one, "severity": "ERROR"},
    ]


@pytest.mark.parametrize(
    "said, time",
    [
        ("2026-05-01T12:00:00.5+02:00", "2026-05-01T10:00:00.500000+00:00"),
        ("2026-05-01T10:00:00.123456789Z", "2026-05-01T10:00:00.123456+00:00"),
        *((no_time, None) for no_time in ("yesterday", 1234, None, "2026-05-01T10:00:00", "0001-01-01T00:00:00+09:00")),
    ],
)
def test_an_entry_of_a_function_is_one_line_with_a_time_in_utc(said, time):
    line = entry_in(json.dumps({"message": "a\u2028b", "time": said}, ensure_ascii=False))
    assert len(line.splitlines()) == 1 and json.loads(line)["message"] == "a\u2028b"
    found = json.loads(line)["time"]
    assert found == time or not time and found[:4] >= "2026" and found.endswith("+00:00")
