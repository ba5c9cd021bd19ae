"""The stand-in for gcloud: the same words, the same output, and the same refusals."""

import json
import os
import re
import subprocess
import time

import pytest

from tool.local import roles
from tool.testing import run, succeeded
from toys import call, start


def test_a_service_looks_as_in_the_cloud(local):
    """In columns, as the real gcloud prints them. test_local_json.py tests the whole service."""
    local.gcloud("run services update closed REGION --update-labels=made-by=me --invoker-iam-check")
    columns = (
        'metadata.name,metadata.labels.made-by,metadata.labels."cloud.googleapis.com/location",'
        "status.conditions[0].status,status.traffic[0].percent,spec.template.spec.serviceAccountName,"
        'metadata.annotations."run.googleapis.com/invoker-iam-disabled",metadata.namespace'
    )
    listed = local.gcloud(f"run services list --format='value({columns})'")
    [cells] = [line.split("\t") for line in listed.splitlines() if line.startswith("closed\t")]
    number = local.gcloud("projects describe local-project --format=value(projectNumber)")
    before = ["closed", "me", "us-central1", "True", "100"]
    assert cells == [*before, local.email("closed"), "False", number]


def test_where_nobody_reads_it_ends_without_a_word(local):
    """For example in `gcloud ... | head -1`."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with start("gcloud", "projects", "get-iam-policy", "local-project", env=local.env,
               stdout=write_end, stderr=subprocess.PIPE) as process:  # fmt: skip
        os.close(write_end)
        assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


def test_revisions_are_named_and_listed(local):
    names = "status.latestCreatedRevisionName,status.latestReadyRevisionName"
    shown = local.gcloud(f"run services describe inner REGION --format='value({names})'").split()
    assert re.fullmatch(r"inner-00001-[a-z]{3}", shown[0]) and set(shown) == {shown[0]}
    [heading, line] = local.gcloud("run revisions list --service=inner REGION").splitlines()
    assert heading.split() == ["REVISION", "ACTIVE", "SERVICE", "DEPLOYED", "DEPLOYED", "BY"]
    assert line.split()[1:4] == [shown[0], "yes", "inner"]


def test_a_policy_is_shown_as_in_the_cloud(local):
    policy = local.gcloud("run services get-iam-policy outer REGION")
    assert re.fullmatch(
        r"bindings:\n- members:\n  - user:you@example.com\n  role: roles/run.invoker\n"
        r"etag: \S+\nversion: 1",
        policy,
    )
    as_json = json.loads(local.gcloud("run services get-iam-policy outer REGION --format=json"))
    assert as_json["bindings"][0]["role"] == "roles/run.invoker"
    flat = local.gcloud(
        "run services get-iam-policy outer REGION --flatten='bindings[].members'"
        " --format='value(bindings.members,bindings.role,bindings.condition.title)'"
    )
    assert flat == "user:you@example.com\troles/run.invoker"
    above = local.gcloud(
        "projects get-ancestors-iam-policy local-project --flatten='policy.bindings[].members'"
        " --format='value(policy.bindings.members,policy.bindings.role,type,id)'"
    )
    binding = ["user:you@example.com", "roles/iam.serviceAccountTokenCreator"]
    assert above.split("\t") == [*binding, "project", "local-project"]


def test_an_empty_policy_has_no_member(local):
    flat = local.gcloud(
        "run services get-iam-policy closed REGION --flatten='bindings[].members' --format='value(bindings.members)'"
    )
    assert flat == ""


def test_a_policy_is_set_whole_from_a_file(local, tmp_path):
    file = tmp_path / "policy.json"
    member = local.member("outer")
    file.write_text(json.dumps({"bindings": [{"role": "roles/run.invoker", "members": [member]}]}))
    local.gcloud(f"run services set-iam-policy closed {file} REGION --quiet --format=none")
    try:
        url = local.url("closed")
        assert call(url, local.token("outer", url)).status_code == 200
        stale = json.loads(local.gcloud("run services get-iam-policy closed REGION --format=json"))
        file.write_text(json.dumps({"bindings": []}))
        local.gcloud(f"run services set-iam-policy closed {file} REGION")
        assert call(url, local.token("outer", url)).status_code == 403
        file.write_text(json.dumps(stale))
        said = local.refused(f"run services set-iam-policy closed {file} REGION")
        assert "There were concurrent policy changes" in said
    finally:
        file.write_text('{"bindings": []}')
        local.gcloud(f"run services set-iam-policy closed {file} REGION")


@pytest.mark.parametrize(
    "member, role, message",
    [
        (
            "outer-sa@local-project.iam.gserviceaccount.com",
            "roles/run.invoker",
            "is of an unknown type. Please set a valid type prefix",
        ),
        ("you", "roles/run.invoker", "is of an unknown type"),
        ("serviceaccount:x@y.example", "roles/run.invoker", "is of an unknown type"),
        ("user:", "roles/run.invoker", "is of an unknown type"),
        ("user:you", "roles/run.invoker", "User you does not exist"),
        ("allusers", "roles/run.invoker", "is of an unknown type"),
        (
            "serviceAccount:gone-sa@local-project.iam.gserviceaccount.com",
            "roles/run.invoker",
            "does not exist",
        ),
        ("serviceAccount:nobody@example.com", "roles/run.invoker", "does not exist"),
        (
            "user:you@example.com",
            "roles/invoker",
            "Role roles/invoker is not supported for this resource",
        ),
        ("user:you@example.com", "run.invoker", "Role run.invoker is not supported"),
        ("user:you@example.com", "roles/storage.made.up", "is not supported"),
    ],
)
def test_iam_refuses_who_and_what_there_cannot_be(local, member, role, message, tmp_path):
    said = local.refused(
        f"run services add-iam-policy-binding closed REGION --member={member} --role={role}"
    )
    assert message in said and said.count("\n") == 1
    file = tmp_path / "policy.json"
    file.write_text(json.dumps({"bindings": [{"role": role, "members": [member]}]}))
    assert message in local.refused(f"run services set-iam-policy closed {file} REGION")
    assert (
        local.gcloud("run services get-iam-policy closed REGION --format='value(bindings.members)'")
        == ""
    )


@pytest.mark.parametrize(
    "member",
    ["group:admins@example.com", "domain:example.com", "serviceAccount:robot@other.iam.gserviceaccount.com",
     "principal://iam.googleapis.com/locations/global/workforcePools/p/subject/s"],
)  # fmt: skip
def test_members_of_other_kinds_are_taken_as_they_are(local, member):
    local.let_in(member, "closed")
    try:
        assert (
            local.gcloud(
                "run services get-iam-policy closed REGION --format='value(bindings[0].members)'"
            )
            == member
        )
    finally:
        local.put_out(member, "closed")


def test_a_project_s_policy_takes_roles_of_other_services(local):
    member = local.member("closed")
    flags = f"local-project --member={member} --role=roles/translate.user --condition=None"
    local.gcloud(f"projects add-iam-policy-binding {flags}")
    local.gcloud(f"projects remove-iam-policy-binding {flags}")
    said = local.refused(
        f"projects add-iam-policy-binding local-project --member={member} --role=roles/translator"
    )
    assert "roles/translator is not supported" in said


def test_bindings_with_a_condition_stand_beside_those_without(local):
    member = local.member("closed")
    role = f"local-project --member={member} --role=roles/datastore.user"
    condition = "--condition='title=mine,expression=resource.name == \"a,b\"'"
    local.gcloud(f"projects add-iam-policy-binding {role} {condition}")
    local.gcloud(f"projects add-iam-policy-binding {role} --condition=None")
    shown = local.read("projects get-iam-policy local-project")["bindings"]
    binding = {"members": [member], "role": "roles/datastore.user"}
    condition_read = {"expression": 'resource.name == "a,b"', "title": "mine"}
    assert binding in shown and {**binding, "condition": condition_read} in shown
    local.gcloud(f"projects remove-iam-policy-binding {role} {condition}")
    local.gcloud(f"projects remove-iam-policy-binding {role} --condition=None")
    assert "not found!" in local.refused(
        f"projects remove-iam-policy-binding {role} --condition=None"
    )


@pytest.fixture
def conditional(local):
    """The policy of closed has a role for a member three times: without a condition, and with two different ones."""
    change = f"closed REGION --member={local.member('outer')} --role=roles/run.viewer"
    for condition in ("None", "title=one,expression=true", "title=two,expression=true"):
        local.gcloud(f"run services add-iam-policy-binding {change} --condition='{condition}'")
    yield change
    local.gcloud(f"run services remove-iam-policy-binding {change} --all", check=False)


def bindings(local):
    policy = json.loads(local.gcloud("run services get-iam-policy closed REGION --format=json"))
    return policy.get("bindings", [])


def test_all_takes_a_member_out_of_each_binding_of_the_role(local, conditional):
    local.let_in("allUsers --condition=None", "closed")
    assert len(bindings(local)) == 4
    local.gcloud(f"run services remove-iam-policy-binding {conditional} --all")
    assert bindings(local) == [{"members": ["allUsers"], "role": "roles/run.invoker"}]
    local.put_out("allUsers", "closed")
    said = local.refused(f"run services remove-iam-policy-binding {conditional} --all")
    assert "Policy bindings with the specified principal and role not found!" in said


def test_where_bindings_have_conditions_it_must_be_said_which_is_meant(local, conditional):
    for verb in ("add", "remove"):
        said = local.refused(f"run services {verb}-iam-policy-binding {conditional}")
        assert "without specifying a condition" in said and "`--condition=None`" in said
    local.gcloud(f"run services remove-iam-policy-binding {conditional} --condition=None")
    titles = [binding["condition"]["title"] for binding in bindings(local)]
    assert titles == ["one", "two"]
    change = f"run services remove-iam-policy-binding {conditional} --all --condition=None"
    both = local.gcloud(change, check=False)
    assert both.returncode == 2 and "At most one of --all | --condition" in both.stderr


def test_a_condition_has_a_title_and_an_expression(local):
    change = f"closed REGION --member={local.member('outer')} --role=roles/run.viewer"
    for condition in ("title=one", "expression=true", "anything"):
        said = local.refused(f"run services add-iam-policy-binding {change} --condition={condition}")
        assert "`expression` and `title` are required keys" in said


def test_there_are_no_jobs(local):
    assert local.gcloud("run jobs list --format=json") == "[]"


@pytest.mark.parametrize(
    "role, invokes",
    [("run.invoker", True), ("run.servicesInvoker", True), ("owner", True), ("editor", True), ("admin", True),
     ("writer", True), ("run.admin", True), ("run.developer", True), ("viewer", False), ("reader", False),
     ("run.viewer", False), ("run.builder", False), ("datastore.user", False), ("datastore.viewer", False),
     ("secretmanager.secretAccessor", False), ("iam.serviceAccountTokenCreator", False)],
)  # fmt: skip
def test_roles_tell_what_they_may(local, role, invokes):
    # The check itself uses this. See also test_iam_roles_describe_says_the_same.
    assert (roles.INVOKE in roles.predefined(f"roles/{role}").permissions) == invokes


def test_iam_roles_describe_says_the_same(local):
    shown = local.gcloud(
        "iam roles describe roles/run.invoker --format='value(includedPermissions)'"
    )
    assert shown == "run.instances.invoke;run.jobs.run;run.routes.invoke"
    said = local.refused("iam roles describe roles/invoker")
    assert "NOT_FOUND: The role named roles/invoker was not found." in said


# ---- who is who


def test_accounts_are_made_listed_and_deleted(local):
    email = "another@local-project.iam.gserviceaccount.com"
    local.gcloud("iam service-accounts create another --description=mine --display-name='An other'")
    assert "ALREADY_EXISTS" in local.refused("iam service-accounts create another")
    listed = local.gcloud("iam service-accounts list --format='value(email,description)'")
    assert f"{email}\tmine" in listed.splitlines()
    assert (
        local.gcloud(f"iam service-accounts describe {email} --format='value(displayName)'")
        == "An other"
    )
    local.gcloud(f"iam service-accounts delete {email} --quiet")
    assert "NOT_FOUND: Unknown service account" in local.refused(
        f"iam service-accounts describe {email}"
    )
    short = local.gcloud("iam service-accounts create inner", check=False)
    assert short.returncode == 2 and "between 6 and 30 characters" in short.stderr


def test_an_account_that_is_made_again_is_another_one(local):
    email = "revived@local-project.iam.gserviceaccount.com"
    url = local.url("closed")
    words = f"auth print-identity-token --impersonate-service-account={email} --audiences={url}"
    local.gcloud("iam service-accounts create revived")
    local.let_in(f"serviceAccount:{email}", "closed")
    token = local.gcloud(words)
    assert call(url, token).status_code == 200
    local.gcloud(f"iam service-accounts delete {email}")
    assert call(url, token).status_code == 403
    local.gcloud("iam service-accounts create revived")
    assert call(url, local.gcloud(words)).status_code == 403
    assert call(url, token).status_code == 403


def test_the_shell_finds_out_where_it_is(local):
    assert local.gcloud("config get account") == "you@example.com"
    assert local.gcloud("config get-value project") == "local-project"
    assert (
        local.gcloud("config list --format='value(core.project,run.region)'")
        == "local-project\tus-central1"
    )
    assert "[core]\naccount = you@example.com\nproject = local-project" in local.gcloud(
        "config list"
    )
    assert (
        local.gcloud("auth list --filter=status:ACTIVE --format='value(account)'")
        == "you@example.com"
    )
    assert local.gcloud("auth list --filter=status:OTHER --format='value(account)'") == ""
    assert local.gcloud("projects list --format='value(projectId)'") == "local-project"
    nothing = local.gcloud("config get compute/zone", check=False)
    assert (nothing.returncode, nothing.stdout.strip()) == (0, "")


def test_a_region_that_is_set_need_not_be_given(local):
    assert local.gcloud("run services describe inner", check=False).returncode == 2
    local.gcloud("config set run/region us-central1")
    try:
        assert (
            local.gcloud("run services describe inner --format='value(metadata.name)'") == "inner"
        )
    finally:
        local.gcloud("config unset run/region")
    assert "and cannot be another" in local.refused("config set project elsewhere")


def test_apis_are_enabled_once(local):
    local.gcloud("services enable run.googleapis.com iam.googleapis.com run.googleapis.com")
    assert local.gcloud("services list --enabled --format='value(config.name)'").split() == [
        "iam.googleapis.com",
        "run.googleapis.com",
    ]


def test_secrets_are_made_listed_and_deleted(local, tmp_path):
    (tmp_path / "value").write_text("v")
    local.gcloud(
        f"secrets create a-secret --data-file={tmp_path / 'value'} --replication-policy=automatic"
    )
    assert (local.secrets / "a-secret").stat().st_mode & 0o777 == 0o600
    assert local.gcloud("secrets list --format='value(name.basename())'") == "a-secret"
    member = f"a-secret --member={local.member('inner')} --role=roles/secretmanager.secretAccessor"
    local.gcloud(f"secrets add-iam-policy-binding {member}")
    assert local.member("inner") in local.gcloud("secrets get-iam-policy a-secret")
    local.gcloud(f"secrets remove-iam-policy-binding {member}")
    local.gcloud("secrets delete a-secret --quiet")
    assert "NOT_FOUND: Secret" in local.refused("secrets describe a-secret")


# ---- logs


def test_logs_are_lines_that_a_person_reads(local):
    url = local.url("outer")
    you = local.gcloud("auth print-identity-token")
    assert call(url, you, "/?said=hello+there").status_code == 200
    call(url)
    assert call(url, you, "/?raise=broken").status_code == 500
    end = time.monotonic() + 20
    while "RuntimeError: broken" not in (
        read := local.gcloud("run services logs read outer --limit=10")
    ):
        assert time.monotonic() < end, read
    lines = read.splitlines()
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "
    said = next(i for i, line in enumerate(lines) if re.fullmatch(stamp + "hello there", line))
    refused = next(i for i, line in enumerate(lines) if "Empty Authorization header value." in line)
    assert said < refused  # oldest first
    [begin] = [i for i, line in enumerate(lines) if "Traceback (most recent call last)" in line]
    assert re.match(stamp, lines[begin - 1])  # Flask's own line: "Exception on / [GET]"
    assert not any(
        re.match(stamp, line)
        for line in lines[begin + 1 : lines.index("RuntimeError: broken", begin)]
    )
    assert len(local.gcloud("run services logs read outer REGION --limit=1").splitlines()) >= 1
    entries = json.loads(
        local.gcloud("logging read 'resource.labels.service_name=outer' --limit=5 --format=json")
    )
    assert 0 < len(entries) <= 5 and entries[0]["timestamp"] >= entries[-1]["timestamp"]


def test_a_log_is_followed(local):
    url, you = local.url("outer"), local.gcloud("auth print-identity-token")
    tail = start(
        "gcloud",
        "beta",
        "run",
        "services",
        "logs",
        "tail",
        "outer",
        env=local.env,
        stdout=subprocess.PIPE,
    )
    try:
        # It shows only lines that are written after it has begun to follow.
        end = time.monotonic() + 20
        import select

        while not select.select([tail.stdout], [], [], 0.2)[0]:
            assert time.monotonic() < end
            call(url, you, "/?said=follow+me")
        assert tail.stdout.readline().endswith(" follow me\n")
    finally:
        tail.terminate()
        tail.wait(20)
        tail.stdout.close()


# ---- commands that make no sense


@pytest.mark.parametrize(
    "line, status, message",
    [
        ("foo bar", 2, "does not know: gcloud foo bar"),
        ("functions deploy inner", 2, "does not know: gcloud functions deploy inner"),
        ("run services list --unknown", 2, "unrecognized arguments: --unknown"),
        ("run services get-iam-policy inner", 2, "--region"),
        ("run services get-iam-policy inner --region=mars", 1, "no region but us-central1"),
        ("run services get-iam-policy nothing REGION", 1, "Cannot find service [nothing]"),
        ("run services get-iam-policy ../project REGION", 1, "Cannot find service"),
        ("run services list --project=elsewhere", 1, "is not the local project"),
        ("run services list --format=xml", 1, "does not know --format=xml"),
        ("run services list --format='value[separator=\"|\"](metadata.name)'", 1, "does not know --format=value[separator"),
        ("run services list --format='value(status.conditions.map().extract(type))'", 1, "does not know map() in a --format"),
        ("run services delete inner REGION", 1, "not in an interactive session"),
        ("projects describe elsewhere", 1, "does not have permission to access"),
        ("run services remove-iam-policy-binding closed REGION --role=roles/run.invoker --member=allUsers", 1, "not found"),
        ("auth print-identity-token --impersonate-service-account=x@y.example", 1, "iam.serviceAccounts.getAccessToken"),
        ("run deploy unknown REGION --source=. --function=f --service-account=x@y.example", 1, "no port is set aside for unknown"),
    ],
)  # fmt: skip
def test_a_command_that_makes_no_sense_is_refused_in_one_line(local, line, status, message):
    result = local.gcloud(line, check=False)
    assert result.returncode == status
    assert message in result.stderr and result.stderr.strip().count("\n") <= (
        line.count("delete inner") * 3
    )
    assert "Traceback" not in result.stderr


def test_help_lists_what_it_knows_and_the_version_is_first(local):
    known = local.gcloud("--help")
    for words in (
        "run deploy",
        "run services proxy",
        "secrets create",
        "beta run services logs tail",
    ):
        assert f"  gcloud {words}\n" in known + "\n"
    assert "gcloud secrets" not in local.gcloud("run services --help")
    assert local.gcloud("--version").startswith("Google Cloud SDK 528.")


def test_without_a_project_it_says_what_to_do(other):
    assert "there is no local project. Run ./deploy.sh --local" in other.refused(
        "run services list"
    )


def test_every_command_is_in_the_audit_log_and_faults_come_as_told(local):
    faults = local.state / "faults.json"
    faults.write_text(
        json.dumps(
            [{"match": "services list --enabled", "times": 2, "error": "UNAVAILABLE: later"}]
        )
    )
    try:
        for _ in range(2):
            assert "UNAVAILABLE: later" in local.refused("services list --enabled")
        local.gcloud("services list --enabled")
    finally:
        faults.unlink()
    audit = (local.state / "audit.log").read_text().splitlines()
    assert audit[-3:] == ["gcloud services list --enabled"] * 3


def test_a_revision_of_another_that_is_just_deleted_disturbs_nobody(local):
    """For example in a destroy, which deletes the functions side by side."""
    gone = local.state / "revisions" / "another-gone.json"
    gone.touch()  # it is in the listing, but has no content, as if it had just been removed
    try:
        assert local.gcloud(
            "run revisions list --service=inner REGION --format=value(metadata.name)"
        )
    finally:
        gone.unlink()


def test_a_service_that_is_deleted_is_not_found_and_its_policy_is_gone(local):
    local.up("short")
    succeeded(local.deploy("short", "def entry(r):\n    return ''\n", entry="entry"))
    local.let_in("allUsers", "short")
    url = local.url("short")
    assert call(url).status_code == 200
    local.gcloud("run services delete short REGION --quiet")
    assert call(url).status_code == 404
    succeeded(local.deploy("short", "def entry(r):\n    return ''\n", entry="entry"))
    assert call(url).status_code == 403
    local.gcloud("run services delete short REGION --quiet")
    assert "short" not in local.gcloud("run services list")


def test_the_table_of_services(local):
    listed = local.gcloud("run services list").splitlines()
    assert listed[0].split() == "SERVICE REGION URL LAST DEPLOYED BY LAST DEPLOYED AT".split()
    assert {"inner", "outer", "closed"} <= {line.split()[1] for line in listed[1:]}


def test_the_stand_in_works_from_any_folder(local, tmp_path):
    result = run("gcloud", "config", "get", "account", env=local.env, cwd=tmp_path)
    assert succeeded(result).stdout == "you@example.com\n"
