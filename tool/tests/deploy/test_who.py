"""who FUNCTION: which principals could make a function run, in which ways, and how to end them."""

import itertools
import json
import random
import shlex

import pytest

from iam_project import (
    ACCOUNTS,
    ALLOWED,
    BACK,
    DOMAIN,
    EVE,
    FRONT,
    FUNCTIONS,
    GROUP,
    INVOKE,
    MALLORY,
    MAP,
    NUMBER,
    OTHER,
    YOU,
    account,
    facts,
    on,
)
from tool.deploy import cut, who_forms, who_text
from tool.deploy.grants import Function
from tool.deploy.principals import is_agent_of_google
from tool.deploy.sentences import NOT_LOOKED_AT


def shown(*grants, function="r/back", **more):
    """What is found, by principal, in the form of the JSON output."""
    found = json.loads(who_forms.as_json(cut.found_by(facts(*grants, **more), function)))
    return {one["principal"]: one for one in found["reached_by"]}


def text(*grants, function="r/back", **more):
    return "\n".join(who_text.as_text(cut.found_by(facts(*grants, **more), function)))


def cut_of(*grants, function="r/back", **more):
    found = cut.with_cut(cut.found_by(facts(*grants, **more), function))
    return json.loads(who_forms.cut_as_json(found))


def does(way):
    return [step["does"] for step in way["steps"]]


# ---- what is found

CERTAIN = {
    "invoke on the function": ([on("function", "r/back", EVE, "invoke")], ["may call back"]),
    "invoke above": ([on("folder", "7", EVE, "invoke")], ["may call back"]),
    "the function's policy": ([on("function", "r/back", EVE, "policy")], ["may change who may call back"]),
    "the project's policy": ([on("project", "p", EVE, "projectPolicy")], ["may change the policy of the project"]),
    "the project's policy, from above": ([on("organization", "1", EVE, "projectPolicy")], ["may change the policy of the project"]),
    "the folder's policy": ([on("folder", "7", EVE, "folderPolicy")], ["may change the policy of the folder"]),
    "other code": ([on("function", "r/back", EVE, "update"), on("account", BACK, EVE, "actAs")], ["may deploy other code as back"]),
    "other code, by what everybody may": (
        [on("function", "r/back", EVE, "update"), on("account", BACK, "allAuthenticatedUsers", "actAs")],
        ["may update back", "may, as everyone may, deploy other code as back"],
    ),
    "a shell in it": ([on("project", "p", EVE, "shell")], [f"may open a shell in back, which runs as {BACK}"]),
    "ID tokens of its caller": ([INVOKE, on("account", FRONT, EVE, "token")], [f"may make ID tokens of {FRONT}", "may call back"]),
    "signed JWTs": ([INVOKE, on("project", "p", EVE, "sign")], [f"may sign as {FRONT}, and so make tokens of it", "may call back"]),
    "signed bytes": ([INVOKE, on("account", FRONT, EVE, "blob")], [f"may sign as {FRONT}, and so make tokens of it", "may call back"]),
    "keys": ([INVOKE, on("account", FRONT, EVE, "keys")], [f"may make keys of {FRONT}", "may call back"]),
    "its caller's policy": ([INVOKE, on("account", FRONT, EVE, "accountPolicy")], [f"may change who may act as {FRONT}", "may call back"]),
    "access tokens of an account that may change its policy": (
        [on("function", "r/back", account(OTHER), "policy"), on("account", OTHER, EVE, "access")],
        [f"may make access tokens of {OTHER}", "may change who may call back"],
    ),
    "access tokens of an account that may make its own ID tokens": (
        [INVOKE, on("account", FRONT, account(FRONT), "token"), on("account", FRONT, EVE, "access")],
        [f"may make access tokens of {FRONT}", f"may make ID tokens of {FRONT}", "may call back"],
    ),
    "code as its caller": ([INVOKE, on("account", FRONT, EVE, "actAs"), on("project", "p", EVE, "create")], [f"may run code as {FRONT}", "may call back"]),
    "a batch job as its caller": ([INVOKE, on("account", FRONT, EVE, "actAs"), on("project", "p", EVE, "batch")], [f"may run code as {FRONT}", "may call back"]),
    "another function changed to run as its caller": (
        [INVOKE, on("account", FRONT, EVE, "actAs"), on("function", "r/other", EVE, "update")],
        [f"may run code as {FRONT}", "may call back"],
    ),
    "a build as its caller": ([INVOKE, on("account", FRONT, EVE, "actAs"), on("project", "p", "allAuthenticatedUsers", "build")], [f"may run code as {FRONT}", "may call back"]),
    "a shell in its caller": ([INVOKE, on("function", "r/front", EVE, "shell")], [f"may open a shell in front, which runs as {FRONT}", "may call back"]),
    "through another account": (
        [INVOKE, on("account", FRONT, account(OTHER), "token"), on("account", OTHER, EVE, "pass")],
        [f"may ask for tokens through {OTHER}", f"may make ID tokens of {FRONT}", "may call back"],
    ),
    "as another account": (
        [INVOKE, on("account", FRONT, account(OTHER), "actAs"), on("project", "p", account(OTHER), "build"), on("account", OTHER, EVE, "keys")],
        [f"may make keys of {OTHER}", f"may run code as {FRONT}", "may call back"],
    ),
}  # fmt: skip
JOBS = {"r/nightly": FRONT}
UNSURE = "it is not documented that this permission is enough"
PERHAPS = {
    "actAs alone": ([INVOKE, on("account", FRONT, EVE, "actAs")], [f"could run code as {FRONT}", "may call back"], UNSURE),
    "actAs, and what changes something that must be there": (
        [INVOKE, on("account", FRONT, EVE, "actAs"), on("project", "p", EVE, "setMetadata")],
        [f"could run code as {FRONT}", "may call back"], UNSURE,
    ),
    "sshRead, as roles/viewer has it": ([on("project", "p", EVE, "view")], [f"may open a shell in back, which runs as {BACK}"], UNSURE),
    "a job with other arguments": (
        [INVOKE, on("job", "r/nightly", EVE, "override")],
        [f"could run the job nightly, which runs as {FRONT}, with other arguments", "may call back"], UNSURE,
    ),
    "a job that is changed": (
        [INVOKE, on("project", "p", EVE, "updateJob")],
        [f"could change the job nightly, which runs as {FRONT}", "may call back"], UNSURE,
    ),
    "a job whose policy is changed": (
        [INVOKE, on("job", "r/nightly", EVE, "jobPolicy")],
        [f"may change who may run the job nightly, which runs as {FRONT}", "may call back"], UNSURE,
    ),
    "Deployment Manager": (
        [on("project", "p", account(f"{NUMBER}@cloudservices.gserviceaccount.com"), "invoke"), on("project", "p", EVE, "manager")],
        [f"could run code as {NUMBER}@cloudservices.gserviceaccount.com, an account that Google made", "may call back"], UNSURE,
    ),
    "actAs of a group": (
        [INVOKE, on("account", FRONT, GROUP, "actAs"), on("project", "p", EVE, "create")],
        ["may run code as any account that it may act as", f"could be in {GROUP}, and so run code as {FRONT}", "may call back"],
        f"who is in {GROUP} is not known",
    ),
    "actAs of a group, for the function itself": (
        [on("account", BACK, GROUP, "actAs"), on("function", "r/back", EVE, "update")],
        ["may update back", f"could be in {GROUP}, and so deploy other code as back"], f"who is in {GROUP} is not known",
    ),
    "an update by a domain": (
        [on("account", BACK, EVE, "actAs"), on("function", "r/back", DOMAIN, "update")],
        [f"may act as {BACK}", f"could be in {DOMAIN}, and so deploy other code as back"], f"who is in {DOMAIN} is not known",
    ),
    "a condition": ([on("function", "r/back", EVE, "invoke", "only at night")], ["may call back"], "a condition decides"),
    "a role that nobody may read": ([on("project", "p", EVE, "hidden")], ["may call back"], "the permissions of a role cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("rule", CERTAIN)
def test_a_planted_grant_is_found_with_its_way(rule):
    lines, steps = CERTAIN[rule]
    eve = shown(*lines)[EVE]
    way = eve["ways"][0]
    assert (does(way), way["sure"], eve["as_trust_map_says"]) == (steps, "certain", False)
    assert all(f"--member={EVE}" in command for command in eve["ends"])
    # Without her own grants, eve is not found.
    assert EVE not in shown(*(grant for grant in lines if grant.binding.member != EVE))


@pytest.mark.parametrize("rule", PERHAPS)
def test_what_is_not_certain_is_perhaps_and_says_why(rule):
    lines, steps, because = PERHAPS[rule]
    way = shown(*lines, jobs=JOBS)[EVE]["ways"][0]
    assert (does(way), way["sure"], way["because"]) == (steps, "perhaps", [because])
    assert f"(perhaps: {because})" in text(*lines, jobs=JOBS)


@pytest.mark.parametrize(
    "lines",
    [
        [on("account", FRONT, EVE, "token")],  # front may not call back
        [INVOKE, on("account", FRONT, EVE, "pass")],  # delegating through front is not being front
        [INVOKE, on("account", FRONT, EVE, "access")],  # the platform does not accept access tokens
        [on("function", "r/back", account(OTHER), "policy"), on("account", OTHER, EVE, "token")],  # APIs do not take ID tokens
        [on("function", "r/back", EVE, "update")],
        [on("account", BACK, EVE, "actAs")],  # code that runs as back's service account is not back
        [on("account", BACK, EVE, "actAs"), on("function", "r/back", MALLORY, "update")],
        [on("function", "r/front", EVE, "invoke")],
        [on("function", "r/front", EVE, "policy")],
        [on("project", "p", EVE, "folderPolicy")],
        [on("project", "p", EVE, "look")],
        [on("project", "p", EVE, "override")],  # no job runs as a service account that may call back
        [on("function", "r/back", f"deleted:{EVE}?uid=1", "invoke")],
        [INVOKE, on("account", OTHER, EVE, "token")],
    ],
)  # fmt: skip
def test_what_leads_nowhere_is_not_shown(lines):
    assert not any("example.com" in principal for principal in shown(*lines))


def test_a_sentence_says_that_nobody_was_found_and_never_that_nobody_can():
    said = text()
    assert said.startswith("Who can reach back? Nobody was found, by the ways looked at.\n")
    assert all(f"\n  {what}" in said for what in NOT_LOOKED_AT)


def test_a_function_s_code_is_a_way_of_its_own_kind():
    opened = on("function", "r/front", "allUsers", "run.invoker")
    way = shown(INVOKE, opened)["allUsers"]["ways"][0]
    assert way["sure"] == "through code"
    assert [step["who"] for step in way["steps"]] == ["allUsers", "the code of front", FRONT]
    assert "  allUsers\n      anonymous → front, through its code:\n" in text(INVOKE, opened)
    # Everyone comes first, even if the way goes through code.
    assert list(shown(INVOKE, opened)) == ["allUsers", account(FRONT)]
    # If trust-map opens front to everyone, the way is marked as one that trust-map opens.
    by_map = shown(INVOKE, opened, by_map=MAP | {("r/front", "allUsers")})["allUsers"]
    assert by_map["as_trust_map_says"] and by_map["ends"] == []
    # Somebody with a token of front's service account does not depend on front's code.
    assert shown(INVOKE, opened, on("account", FRONT, EVE, "token"))[EVE]["ways"][0]["sure"] == "certain"
    # If nobody may call a function, nobody gets anything through its code.
    assert list(shown(INVOKE)) == [account(FRONT)]


def test_the_code_of_a_job_is_one_too():
    way = shown(INVOKE, on("job", "r/nightly", EVE, "startJob"), jobs=JOBS)[EVE]["ways"][0]
    assert way["sure"] == "through code" and "whose code runs as" in way["steps"][0]["does"]


def test_an_open_check_is_everyone():
    is_open = {**FUNCTIONS, "r/back": Function(BACK, True)}
    everyone = shown(functions=is_open)["allUsers"]
    assert "switched off" in everyone["ways"][0]["steps"][0]["does"]
    assert everyone["ends"] == [
        "gcloud run services update back --invoker-iam-check --region=r --project=p"
    ]


# ---- what the map says


def test_what_the_map_says_is_marked_and_nothing_else():
    found = shown(INVOKE, on("account", FRONT, EVE, "token"))
    assert [(who, one["as_trust_map_says"]) for who, one in found.items()] == [
        (EVE, False), (account(FRONT), True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "more",
    [
        on("function", "r/back", account(FRONT), "policy"),
        on("project", "p", account(FRONT), "owner"),
        on("project", "p", account(FRONT), "invoke"),
        on("project", "p", account(FRONT), "run.invoker"),
        on("account", BACK, account(FRONT), "deployer"),
    ],
)
def test_what_a_wanted_principal_has_besides_is_shown_and_ended(more):
    also = [on("function", "r/back", account(FRONT), "update")] if more.on.id == BACK else []
    front = shown(INVOKE, more, *also)[account(FRONT)]
    assert not front["as_trust_map_says"]
    assert [way["as_trust_map_says"] for way in front["ways"]][:2] == [True, False]
    assert len(front["ends"]) == 1
    said = text(INVOKE, more, *also)
    assert f"  {account(FRONT)}\n      as trust-map says:\n" in said
    assert "      more than trust-map says:\n" in said


@pytest.mark.parametrize(
    "binding",
    [
        on("function", "r/back", account(FRONT), "run.invoker", "at night"),
        on("function", "r/back", account(FRONT), "invoke"),
        on("function", "r/back", account(OTHER), "run.invoker"),
        on("project", "p", account(FRONT), "run.invoker"),
    ],
)
def test_no_other_binding_is_as_the_map_says(binding):
    assert not any(one["as_trust_map_says"] for one in shown(binding).values())


def test_a_condition_beside_the_map_s_own_binding_gives_nothing_more():
    """And no command may remove both bindings."""
    twice = on("function", "r/back", account(FRONT), "run.invoker", "at night")
    assert shown(INVOKE, twice)[account(FRONT)]["as_trust_map_says"]


def test_what_an_account_may_do_to_itself_is_no_way():
    itself = [on("account", FRONT, account(FRONT), role) for role in ("access", "creator", "actAs")]
    assert shown(INVOKE, *itself)[account(FRONT)]["as_trust_map_says"]
    front = shown(*itself, on("function", "r/back", account(FRONT), "policy"))[account(FRONT)]
    assert len(front["ways"]) == len(front["ends"]) == 1


def test_a_way_back_to_oneself_is_no_way():
    """front may become other, which may become front. That gives front nothing more."""
    lines = [INVOKE, on("account", OTHER, account(FRONT), "token"), on("account", OTHER, account(FRONT), "access"), on("account", FRONT, account(OTHER), "keys")]
    assert shown(*lines)[account(FRONT)]["as_trust_map_says"]
    halves = [on("function", "r/back", account(FRONT), "update"), on("account", BACK, account(FRONT), "actAs")]
    everyone_s = on("account", BACK, "allAuthenticatedUsers", "actAs")
    [command] = shown(*lines, *halves, everyone_s)[account(FRONT)]["ends"]
    assert "--role=roles/update" in command  # ending only actAs would not be enough


# ---- what is said


def test_certain_comes_before_perhaps_then_the_farthest_from_the_project():
    stranger = "serviceAccount:ci@elsewhere.iam.gserviceaccount.com"
    abroad = "user:eve@elsewhere.example"
    members = [account(OTHER), EVE, GROUP, abroad, stranger, "allAuthenticatedUsers", "allUsers"]
    lines = [on("function", "r/back", member, "invoke") for member in members]
    later = on("function", "r/back", "domain:example.org", "invoke", "at night")
    assert list(shown(*lines, later)) == [
        "allAuthenticatedUsers", "allUsers", stranger, abroad, GROUP, EVE, account(OTHER), "domain:example.org",
    ]  # fmt: skip


def test_what_is_not_known_is_said_and_never_a_no():
    said = text(
        on("function", "r/back", GROUP, "invoke"),
        on("project", "p", EVE, "hidden"),
        on("function", "r/back", MALLORY, "invoke", "only at night"),
        unread=("the policies above project p",),
    )
    for what in (f"who is in {GROUP}", "what roles/hidden allows", "the policies above project p"):
        assert f"\nNot known: {what}\n" in said
    assert "roles/invoke on function back, if only at night" in said


def test_what_decides_and_cannot_be_read_is_said_first():
    said = text(hidden=("the policy of function back",), unread=("the policy of function back",))
    assert said.startswith("Who can reach back is not known. You may not read the policy of function back.\n")
    assert "Not known" not in said


def test_a_longer_way_that_is_certain_comes_before_a_shorter_one_that_is_not():
    lines = [INVOKE, on("project", "p", EVE, "hidden"), on("account", FRONT, EVE, "token")]
    ways = shown(*lines)[EVE]["ways"]
    assert [(way["sure"], len(way["steps"])) for way in ways] == [("certain", 2), ("perhaps", 1)]


AGENT = f"serviceAccount:service-{NUMBER}@gcp-sa-pubsub.iam.gserviceaccount.com"
STRANGERS = (
    "serviceAccount:service-9@evil-project.iam.gserviceaccount.com",
    f"serviceAccount:service-{NUMBER}@evil-project.iam.gserviceaccount.com",
    "serviceAccount:service-9@gcp-sa-pubsub.iam.gserviceaccount.com",
    "serviceAccount:9@cloudservices.gserviceaccount.com",
    f"serviceAccount:{NUMBER}-compute@developer.gserviceaccount.com",
    f"serviceAccount:{NUMBER}@cloudbuild.gserviceaccount.com",
    f"user:service-{NUMBER}@gcp-sa-pubsub.iam.gserviceaccount.com",
    f"serviceAccount:service-{NUMBER}@gcp-sa-pubsub.iam.gserviceaccount.com.example.com",
)


def test_agents_of_google_are_folded_and_strangers_named():
    agents = [AGENT, f"serviceAccount:{NUMBER}@cloudservices.gserviceaccount.com"]
    lines = [on("project", "p", member, "invoke") for member in (*agents, *STRANGERS)]
    found = cut.found_by(facts(*lines), "r/back")
    assert sorted(found.agents) == sorted(agents)
    assert sorted(f.principal for f in found.findings) == sorted(STRANGERS)
    assert all(f.cut for f in found.findings)
    assert "Google's own service agents of this project (2)" in "\n".join(who_text.as_text(found))


def test_where_the_project_s_number_is_not_known_everybody_is_named():
    assert list(shown(on("project", "p", AGENT, "invoke"), number="")) == [AGENT]
    assert not is_agent_of_google("serviceAccount:service-@gcp-sa-pubsub.iam.gserviceaccount.com", "")


def test_an_agent_with_a_binding_on_the_function_itself_is_named():
    lines = [on("project", "p", AGENT, "invoke"), on("function", "r/back", AGENT, "run.invoker")]
    agent = shown(*lines)[AGENT]
    assert agent["ends"] == [
        "gcloud run services remove-iam-policy-binding back --region=r --project=p"
        f" --member={AGENT} --role=roles/run.invoker"
    ]


def test_mermaid_draws_each_step_once():
    lines = [INVOKE, on("account", FRONT, EVE, "token"), on("account", FRONT, MALLORY, "actAs")]
    drawn = list(who_forms.as_mermaid(cut.found_by(facts(*lines), "r/back")))
    assert drawn[0] == "flowchart LR" and len(drawn) == len(set(drawn)) == 4
    assert [line.split()[1] for line in drawn[1:]] == ["-->", "-->", "-.->"]
    assert list(who_forms.as_mermaid(cut.found_by(facts(), "r/back")))[1:] == ["    back"]


def test_mermaid_draws_two_halves_as_one_arrow():
    lines = [INVOKE, on("account", FRONT, GROUP, "actAs"), on("project", "p", EVE, "create")]
    drawn = [line for line in who_forms.as_mermaid(cut.found_by(facts(*lines), "r/back")) if "eve" in line]
    assert len(drawn) == 1 and " -.-> " in drawn[0] and "front-sa" in drawn[0]


# ---- what ends it


def test_all_that_a_principal_holds_is_ended_at_once():
    lines = [
        on("function", "r/back", EVE, "invoke"), on("project", "p", EVE, "invoke"),
        on("project", "p", EVE, "policy"), on("account", FRONT, EVE, "token"), INVOKE,
    ]  # fmt: skip
    eve = shown(*lines)[EVE]
    assert len(eve["ways"]) == len(eve["ends"]) == 4
    assert "these 4 commands together end it:\n" in text(*lines)


def test_gcloud_is_told_which_binding_where_a_policy_has_a_condition():
    plain = on("project", "p", EVE, "invoke")
    other = on("project", "p", MALLORY, "look", "at night")
    [command] = shown(plain)[EVE]["ends"]
    assert "--condition" not in command and "--all" not in command
    [command] = shown(plain, other)[EVE]["ends"]
    assert command.endswith("--role=roles/invoke --condition=None")
    [command] = shown(plain, on("project", "p", EVE, "invoke", "at night"))[EVE]["ends"]
    assert command.endswith("--role=roles/invoke --all")
    # The condition is in another policy.
    [command] = shown(on("function", "r/back", EVE, "invoke"), other)[EVE]["ends"]
    assert "--condition" not in command


def test_your_own_owner_role_is_never_proposed():
    yours = [on("project", "p", "user:You@Example.com", "owner"), on("project", "p", YOU, "invoke")]
    you = shown(*yours, function="r/other")[YOU]
    assert [command.partition("--role=")[2] for command in you["ends"]] == ["roles/invoke"]
    assert "this is your own roles/owner: taking it away would lock you out" in text(*yours, function="r/other")
    assert cut_of(*yours, function="r/other")["commands"] == you["ends"]
    # That of somebody else is.
    assert "roles/owner" in shown(on("project", "p", EVE, "owner"))[EVE]["ends"][0]


def test_an_owner_by_a_group_is_warned():
    owners = on("project", "p", GROUP, "owner")
    warning = f"if you are in {GROUP}, taking roles/owner from it locks you out"
    assert warning in text(owners)
    assert warning not in text(owners, on("project", "p", YOU, "owner"))


def test_what_you_hold_yourself_is_taken_away_last():
    lines = [on("project", "p", who, "policy") for who in ("user:zoe@example.com", YOU, EVE)]
    members = [word for c in cut_of(*lines, function="r/other")["commands"] for word in shlex.split(c) if "member" in word]
    assert members[-1] == f"--member={YOU}" and len(members) == 3


def test_a_command_can_be_pasted_whatever_the_address_and_names_the_member_as_the_policy_does():
    odd = "user:O'Brien@Example.com"
    [one] = shown(on("function", "r/back", odd, "invoke")).values()
    assert one["principal"] == odd.replace("O'Brien@Example", "o'brien@example")
    assert f"--member={odd}" in shlex.split(one["ends"][0])


def test_one_list_for_a_function_leaves_out_what_others_end():
    """Once other is no longer let in, a token of its service account is of no use to its holders."""
    lines = [
        INVOKE, on("function", "r/back", account(OTHER), "invoke"), on("account", OTHER, EVE, "token"),
        on("account", OTHER, MALLORY, "keys"),
    ]  # fmt: skip
    assert {len(one["ends"]) for one in shown(*lines).values()} == {0, 1}
    found = cut_of(*lines)
    [command] = found["commands"]
    assert f"--member={account(OTHER)}" in command
    assert [(one["principal"], one["as_trust_map_says"]) for one in found["left"]] == [(account(FRONT), True)]


def test_what_a_function_s_account_may_call_against_the_map_is_ended_there_and_not_at_its_callers():
    """trust-map lets you call front, so removing that would not last: the next deploy would add it again."""
    lines = [on("function", "r/front", YOU, "run.invoker"), on("function", "r/other", account(FRONT), "invoke")]
    found = shown(*lines, function="r/other")
    assert found[YOU]["ends"] == found[account(FRONT)]["ends"]
    assert len(cut_of(*lines, function="r/other")["commands"]) == 1


def test_a_cut_is_a_script_for_a_shell():
    lines = [INVOKE, on("function", "r/back", EVE, "invoke"), on("project", "p", YOU, "owner"), on("project", "p", AGENT, "invoke")]
    found = cut.with_cut(cut.found_by(facts(*lines), "r/back"))
    said = list(who_text.cut_as_text(found))
    assert [line for line in said if not line.startswith("#")] == [
        f"gcloud run services remove-iam-policy-binding back --region=r --project=p --member={EVE} --role=roles/invoke"
    ]
    rest = "\n".join(said)
    assert f"#   {account(FRONT)}, as trust-map says\n" in rest and f"#   {YOU}\n" in rest
    assert "would lock you out" in rest and "Google's own service agents of this project (1)" in rest


# ---- compared with a search that simply tries everything

MEMBERS = (EVE, MALLORY, YOU, GROUP, DOMAIN, "allAuthenticatedUsers", *map(account, sorted(ACCOUNTS)))
ABOVE = [("project", "p"), ("folder", "7")]
ON_FUNCTION = [("function", name) for name in FUNCTIONS]
ON_ACCOUNT = [("account", email) for email in (FRONT, BACK, OTHER, FRONT, OTHER)]
WHERE = {  # the roles that are tried, and the resources where each has a meaning
    "run.invoker policy update deployer view hidden": ON_FUNCTION * 2 + ABOVE,
    "run.invoker run.invoker run.invoker run.invoker shell": ON_FUNCTION,
    "token access sign pass creator actAs keys accountPolicy": ON_ACCOUNT * 2 + ABOVE,
    "token access pass actAs": ON_ACCOUNT,
    "startJob override updateJob jobPolicy": [("job", "r/nightly"), *ABOVE],
    "create build batch projectPolicy folderPolicy hidden": ABOVE,
}


def rounds(member, grants, most):
    """The number of rounds until a member gets to r/back, if it does all that is possible in each; None: never.

    `most`: 0 only what is certain, 1 also ways through code, 2 also what is only possible.
    """
    have = {f"be {member}"}
    for number in itertools.count():
        grown = True
        while grown:  # everything that follows without a further step
            more = {new for old in have for new in follows(*old.split(" ", 1))}
            grown, have = not more <= have, have | more
        if "reach r/back" in have:
            return number
        code = {f"call {f.account}" for name, f in FUNCTIONS.items() if f"reach {name}" in have}
        new = {gain for grant in grants for gain in gained(grant, grants, have, most)}
        if (new | code if most >= 1 else new) <= have:
            return None
        have = have | new | (code if most >= 1 else set())


def follows(what, of):
    if what == "be" and of.startswith("serviceAccount:"):
        email = of.partition(":")[2]
        yield from (f"access {email}", f"id {email}")
    if what == "access":
        yield f"ask {of}"
    if what == "id":
        yield f"call {of}"
    if what in ("run", "own"):
        yield f"be {account(of)}"
    if what == "inside":
        yield from (f"reach {of}", f"run {FUNCTIONS[of].account}")
    if what == "open":
        yield f"reach {of}"
    if what == "above":
        yield from (f"reach {name}" for name in FUNCTIONS)


def permits(grant, permission, kind, id):
    """None if the grant does not give the permission there; otherwise whether it certainly does."""
    (_, role, condition), (level, where) = grant
    allowed = ALLOWED[role]
    is_above = level.value in ("project", "folder", "organization")
    if (allowed is None or permission in allowed) and (is_above or (level.value, where) == (kind, id)):
        return allowed is not None and not condition
    return None


def usable(grant, have, token):
    kind, _, email = grant.binding.member.partition(":")
    return f"{token} {email}" in have if kind == "serviceAccount" else f"be {grant.binding.member}" in have


def gained(grant, grants, have, most):
    """What somebody who has all this gains through a grant, alone or together with another."""
    ways = []  # (which token it takes, the permission, the kind and id of the resource, the gain, is it documented)
    for name, (runs_as, _) in FUNCTIONS.items():
        ways += [
            ("call", "run.routes.invoke", "function", name, f"reach {name}", True),
            ("access", "run.services.setIamPolicy", "function", name, f"open {name}", True),
            ("access", "run.services.sshRoot", "function", name, f"inside {name}", True),
            ("access", "run.services.sshRead", "function", name, f"inside {name}", False),
            ("access", "run.services.update", "function", name, f"may-update {name}", True),
            ("access", "iam.serviceAccounts.actAs", "account", runs_as, f"may-be-for {name}", True),
        ]
    for email in ACCOUNTS:
        ways += [("ask", f"iam.serviceAccounts.{p}", "account", email, f"{gain} {email}", True) for p, gain in (
            ("getOpenIdToken", "id"), ("getAccessToken", "access"), ("signJwt", "run"), ("implicitDelegation", "ask"),
        )]  # fmt: skip
        ways += [
            ("access", "iam.serviceAccountKeys.create", "account", email, f"own {email}", True),
            ("access", "iam.serviceAccounts.setIamPolicy", "account", email, f"own {email}", True),
            ("access", "iam.serviceAccounts.actAs", "account", email, f"run {email}", False),
        ]
    ways += [
        ("access", "run.jobs.runWithOverrides", "job", "r/nightly", f"run {FRONT}", False),
        ("access", "run.jobs.update", "job", "r/nightly", f"run {FRONT}", False),
        ("access", "run.jobs.setIamPolicy", "job", "r/nightly", f"run {FRONT}", False),
    ]
    if most >= 1:
        ways.append(("access", "run.jobs.run", "job", "r/nightly", f"call {FRONT}", True))
    starters = [("project", "p", p) for p in ("run.services.create", "cloudbuild.builds.create", "batch.jobs.create")]
    starters += [("function", name, "run.services.update") for name in FUNCTIONS]
    starters.append(("job", "r/nightly", "run.jobs.update"))
    ways += [("access", p, kind, id, "may-start x", True) for kind, id, p in starters]
    for token, permission, kind, id, gain, documented in ways:
        certain = permits(grant, permission, kind, id)
        if certain is not None and usable(grant, have, token) and (most == 2 or (certain and documented)):
            yield gain
    if permits(grant, "resourcemanager.projects.setIamPolicy", "", "") in (True, None if most < 2 else False):
        if usable(grant, have, "access") and has_permission(grant, "projects"):
            yield "above x"
    if grant.on.level.value != "project" and has_permission(grant, "folders"):
        certain = permits(grant, "resourcemanager.folders.setIamPolicy", "", "")
        if certain is not None and (certain or most == 2) and usable(grant, have, "access"):
            yield "above x"
    yield from gained_in_pairs(grant, grants, have, most, starters)


def has_permission(grant, what):
    return permits(grant, f"resourcemanager.{what}.setIamPolicy", "", "") is not None


def gained_in_pairs(first, grants, have, most, starters):
    """Gains through actAs together with another grant, of the same holder, of everyone, or perhaps of a set."""
    for email in ACCOUNTS:
        acts = permits(first, "iam.serviceAccounts.actAs", "account", email)
        if acts is None or not (acts or most == 2):
            continue
        for second in grants:
            for kind, id, permission in starters:
                if (runs := permits(second, permission, kind, id)) is not None and (runs or most == 2):
                    if usable(first, have, "access") and second.binding.member in (first.binding.member, "allAuthenticatedUsers"):
                        yield f"run {email}"
        in_it = first.binding.member == "allAuthenticatedUsers" or (most == 2 and first.binding.member in (GROUP, DOMAIN))
        if in_it and "may-start x" in have:
            yield f"run {email}"
        for name, (runs_as, _) in FUNCTIONS.items():
            if runs_as != email:
                continue
            if in_it and f"may-update {name}" in have:
                yield f"inside {name}"
            for second in grants:
                updates = permits(second, "run.services.update", "function", name)
                if updates is None or not (updates or most == 2):
                    continue
                holder = second.binding.member
                if usable(first, have, "access") and holder in (first.binding.member, "allAuthenticatedUsers"):
                    yield f"inside {name}"
                if most == 2 and holder in (GROUP, DOMAIN) and f"may-be-for {name}" in have:
                    yield f"inside {name}"


def best(member, grants):
    """(how sure, how many steps): the best way; None if there is none."""
    for most in range(3):
        if number := rounds(member, grants, most):
            return most, number
    return None


def a_project(dice):
    grants = [(role, places) for roles, places in WHERE.items() for role in roles.split()]

    def grant():
        role, places = dice.choice(grants)
        return on(*dice.choice(places), dice.choice(MEMBERS), role, dice.choice(["", "", "", "at night"]))

    return [grant() for _ in range(dice.randint(6, 16))]


def left(member, grants, by_map):
    """Whether a member gets there by anything beyond what the map gives it."""
    def of_map(grant):
        return (
            grant.on.level.value == "function" and grant.binding.role == "roles/run.invoker"
            and not grant.binding.condition and (grant.on.id, grant.binding.member) in by_map
        )  # fmt: skip

    if best(member, [grant for grant in grants if of_map(grant)]):
        grants = [g for g in grants if not (of_map(g) and g.binding.member == member)]
    return best(member, grants) is not None


def test_random_projects_agree_with_a_search_that_tries_everything():
    dice = random.Random(20261128)
    seen = []
    for _ in range(500):
        lines = a_project(dice)
        more = {"jobs": JOBS, "by_map": frozenset(), "you": ""}
        found = cut.found_by(facts(*lines, **more), "r/back")
        ranks = {f.principal: f.ways[0].rank for f in found.findings}
        tried = {member: best(member, lines) for member in {line.binding.member for line in lines}}
        assert ranks == {member: rank for member, rank in tried.items() if rank}, lines
        dice.shuffle(lines)  # the order in which policies are read must not matter
        again = cut.found_by(facts(*lines, **more), "r/back")
        assert again.findings == found.findings
        seen += ranks.values()
    assert len(seen) > 1000 and max(steps for _, steps in seen) >= 4  # otherwise the test would show little
    assert min(sum(sure == kind for sure, _ in seen) for kind in range(3)) > 10


def test_random_cuts_end_all_ways_and_hold_nothing_that_is_not_needed():
    dice, lists = random.Random(24), []
    for _ in range(150):
        lines = a_project(dice)
        invokes = [(g.on.id, g.binding.member) for g in lines if g.binding.role == "roles/run.invoker"]
        by_map = frozenset(dice.sample(invokes, len(invokes) // 2))
        read = facts(*lines, jobs=JOBS, by_map=by_map, you="")
        found = cut.with_cut(cut.found_by(read, "r/back"))
        for finding in found.findings:
            rest = cut.without(read, finding.cut).grants
            assert not left(finding.principal, rest, by_map), (finding.principal, lines, by_map)
        members = {line.binding.member for line in lines}
        for left_out in (None, *found.cut):
            rest = cut.without(read, set(found.cut) - {left_out}).grants
            assert any(left(m, rest, by_map) for m in members) == (left_out is not None), (left_out, lines, by_map)
        lists.append(len(found.cut))
    assert max(lists) >= 4 and sum(lists) > 200
