"""tool/deploy/who.py: which principals could make a function run, and by which chain."""

import random
import shlex

import pytest

from tool.deploy import who
from tool.deploy.cloud import Binding, Condition, Grant, Level, Resource

P = "p.iam.gserviceaccount.com"
FRONT, BACK, OTHER = f"front-sa@{P}", f"back-sa@{P}", f"other-sa@{P}"
FUNCTIONS = {"r/front": who.Function(FRONT, False), "r/back": who.Function(BACK, False)}
ACCOUNTS = frozenset((FRONT, BACK, OTHER))


def on(kind, id, member, role, condition=""):
    """A grant of one of the roles below."""
    when = Condition(condition, "true") if condition else None
    return Grant(Binding(member, f"roles/{role}", when), Resource(Level(kind), id))


INVOKE = on("function", "r/back", f"serviceAccount:{FRONT}", "invoke")
ROLES = {
    "invoke": "run.routes.invoke",
    "token": "iam.serviceAccounts.getOpenIdToken",
    "access": "iam.serviceAccounts.getAccessToken",
    "sign": "iam.serviceAccounts.signJwt",
    "blob": "iam.serviceAccounts.signBlob",
    "pass": "iam.serviceAccounts.implicitDelegation",
    "actAs": "iam.serviceAccounts.actAs",
    "keys": "iam.serviceAccountKeys.create",
    "accountPolicy": "iam.serviceAccounts.setIamPolicy",
    "policy": "run.services.setIamPolicy",
    "update": "run.services.update",
    "create": "run.services.create",
    "build": "cloudbuild.builds.create",
    "shell": "run.services.sshRoot",
    "projectPolicy": "resourcemanager.projects.setIamPolicy",
    "folderPolicy": "resourcemanager.folders.setIamPolicy",
    "view": "run.services.get;iam.serviceAccounts.get",
    "owner": "run.routes.invoke;run.services.setIamPolicy;iam.serviceAccounts.actAs",
    "hidden": "?",
}
ALLOWED = {
    f"roles/{name}": None if permissions == "?" else frozenset(permissions.split(";"))
    for name, permissions in ROLES.items()
}


def facts(grants, functions=FUNCTIONS, **more):
    return who.Facts(functions, ACCOUNTS, tuple(grants), ALLOWED, **more)


def found(*grants, function="r/back", **more):
    return who.found_by(facts(grants, **more), "p", function)


EVE, MALLORY = "user:eve@example.com", "user:mallory@example.com"
PLANTED = {
    "invoke on the function": ([on("function", "r/back", EVE, "invoke")], ["may call back"]),
    "invoke above": ([on("folder", "7", EVE, "invoke")], ["may call back"]),
    "the function's policy": ([on("function", "r/back", EVE, "policy")], ["may change who may call back"]),
    "the project's policy": ([on("project", "p", EVE, "projectPolicy")], ["may change the policy of the project"]),
    "the project's policy, from above": ([on("organization", "1", EVE, "projectPolicy")], ["may change the policy of the project"]),
    "the folder's policy": ([on("folder", "7", EVE, "folderPolicy")], ["may change the policy of the folder"]),
    "other code": ([on("function", "r/back", EVE, "update"), on("account", BACK, EVE, "actAs")], ["may deploy other code as back"]),
    "a shell in it": ([on("project", "p", EVE, "shell")], ["may open a shell in back"]),
    "ID tokens of its caller": ([INVOKE, on("account", FRONT, EVE, "token")], [f"may make tokens of {FRONT}", "may call back"]),
    "access tokens": ([INVOKE, on("account", FRONT, EVE, "access")], [f"may make tokens of {FRONT}", "may call back"]),
    "signed JWTs": ([INVOKE, on("project", "p", EVE, "sign")], [f"may make tokens of {FRONT}", "may call back"]),
    "signed bytes": ([INVOKE, on("account", FRONT, EVE, "blob")], [f"may make tokens of {FRONT}", "may call back"]),
    "keys": ([INVOKE, on("account", FRONT, EVE, "keys")], [f"may make keys of {FRONT}", "may call back"]),
    "its caller's policy": ([INVOKE, on("account", FRONT, EVE, "accountPolicy")], [f"may change who may act as {FRONT}", "may call back"]),
    "code as its caller": ([INVOKE, on("account", FRONT, EVE, "actAs"), on("project", "p", EVE, "create")], [f"may run code as {FRONT}", "may call back"]),
    "a build as its caller": ([INVOKE, on("account", FRONT, EVE, "actAs"), on("project", "p", "allAuthenticatedUsers", "build")], [f"may run code as {FRONT}", "may call back"]),
    "a shell in its caller": ([INVOKE, on("function", "r/front", EVE, "shell")], [f"may open a shell in front, which runs as {FRONT}", "may call back"]),
    "through another account": (
        [INVOKE, on("account", FRONT, f"serviceAccount:{OTHER}", "token"), on("account", OTHER, EVE, "pass")],
        [f"may ask for tokens through {OTHER}", f"may make tokens of {FRONT}", "may call back"],
    ),
    "as another account": (
        [INVOKE, on("account", FRONT, f"serviceAccount:{OTHER}", "actAs"), on("project", "p", f"serviceAccount:{OTHER}", "build"), on("account", OTHER, EVE, "keys")],
        [f"may make keys of {OTHER}", f"may run code as {FRONT}", "may call back"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", PLANTED)
def test_a_planted_grant_is_found_with_its_chain(rule):
    lines, chain = PLANTED[rule]
    [eve] = [one for one in found(*lines)["reached_by"] if one["principal"] == EVE]
    assert [step["does"] for step in eve["steps"]] == chain
    assert eve["certain"] and not eve["wanted"]
    assert eve["ends"].endswith(eve["steps"][0]["by"][0].split(" on ")[0])
    # Without its own grants, eve is not there.
    left = [grant for grant in lines if grant.binding.member != EVE]
    assert EVE not in [one["principal"] for one in found(*left)["reached_by"]]


@pytest.mark.parametrize(
    "lines",
    [
        [on("account", FRONT, EVE, "token")],  # front may not call back
        [INVOKE, on("account", FRONT, EVE, "actAs")],  # nowhere to run code
        [INVOKE, on("account", FRONT, EVE, "actAs"), on("project", "p", MALLORY, "create")],
        [INVOKE, on("account", FRONT, EVE, "pass")],  # to pass through front is not to be it
        [on("function", "r/back", EVE, "update")],
        [on("function", "r/front", EVE, "invoke")],
        [on("function", "r/front", EVE, "policy")],
        [on("project", "p", EVE, "folderPolicy")],
        [on("project", "p", EVE, "view")],
        [on("function", "r/back", "deleted:" + EVE + "?uid=1", "invoke")],
        [INVOKE, on("account", OTHER, EVE, "token")],
    ],
)
def test_what_leads_nowhere_is_not_shown(lines):
    shown = [one["principal"] for one in found(*lines)["reached_by"]]
    assert not any("example.com" in principal for principal in shown)


def test_a_clean_project_shows_its_owner_alone():
    owner = on("project", "p", "user:You@Example.com", "owner")
    [one] = found(owner)["reached_by"]
    assert one["principal"] == "user:you@example.com"
    assert one["steps"] == [
        {"who": one["principal"], "does": "may call back", "by": ["roles/owner on project p"]}
    ]
    assert one["ends"] == (
        "gcloud projects remove-iam-policy-binding p --member=user:you@example.com --role=roles/owner"
    )


def test_a_command_can_be_pasted_whatever_the_address():
    [one] = found(on("function", "r/back", "user:o'brien@example.com", "invoke"))["reached_by"]
    assert shlex.split(one["ends"])[-2] == "--member=user:o'brien@example.com"


def test_everyone_comes_first_and_an_open_check_is_everyone():
    signed_in = on("account", FRONT, "allAuthenticatedUsers", "token")
    said = found(INVOKE, signed_in, on("project", "p", EVE, "invoke"))["reached_by"]
    assert [one["principal"] for one in said][0] == "allAuthenticatedUsers"  # though EVE's way is shorter
    is_open = {**FUNCTIONS, "r/back": who.Function(BACK, True)}
    [one] = who.found_by(facts([], is_open), "p", "r/back")["reached_by"]
    assert one["principal"] == "allUsers" and "switched off" in one["steps"][0]["does"]
    assert one["ends"] == "gcloud run services update back --invoker-iam-check --region=r --project=p"


def test_what_is_not_known_is_said_and_never_a_no():
    said = found(
        on("function", "r/back", "group:admins@example.com", "invoke"),
        on("project", "p", EVE, "hidden"),
        on("function", "r/back", MALLORY, "invoke", "only at night"),
        unread=("the policies above project p",),
    )
    certain = {one["principal"]: one["certain"] for one in said["reached_by"]}
    assert certain == {"group:admins@example.com": True, EVE: False, MALLORY: False}
    assert said["unknown"] == [
        "who is in group:admins@example.com",
        "what roles/hidden allows",
        "the policies above project p",
    ]
    text = "\n".join(who.as_text(said))
    assert "roles/invoke on function back, if only at night" in text and "perhaps" in text


def test_a_longer_way_that_is_certain_comes_before_a_shorter_one_that_is_not():
    lines = [INVOKE, on("project", "p", EVE, "hidden"), on("account", FRONT, EVE, "token")]
    [eve] = [one for one in found(*lines)["reached_by"] if one["principal"] == EVE]
    assert eve["certain"] and len(eve["steps"]) == 2


def test_agents_of_google_are_folded():
    agents = [f"serviceAccount:service-{n}@gcp-sa-x.iam.gserviceaccount.com" for n in (1, 2)]
    said = found(*(on("project", "p", agent, "invoke") for agent in agents))
    assert said["reached_by"] == [] and said["agents_of_google"] == agents
    assert "reached by\n  Google's own service agents (2)" in "\n".join(who.as_text(said))


def test_what_the_map_wants_is_marked_and_no_way_round_it():
    wanted = frozenset([f"serviceAccount:{FRONT}"])
    said = found(INVOKE, on("account", FRONT, EVE, "token"), wanted=wanted)
    assert [(one["principal"], one["wanted"]) for one in said["reached_by"]] == [
        (f"serviceAccount:{FRONT}", True), (EVE, False),
    ]  # fmt: skip


def test_whom_the_map_wants_and_who_comes_another_way_is_not_as_the_map_says():
    planted = on("account", FRONT, EVE, "token")
    [_, eve] = found(INVOKE, planted, wanted=frozenset([EVE]))["reached_by"]
    assert not eve["wanted"]


def test_mermaid_draws_each_step_once():
    lines = [INVOKE, on("account", FRONT, EVE, "token"), on("account", FRONT, MALLORY, "token")]
    drawn = list(who.as_mermaid(found(*lines)))
    assert drawn[0] == "flowchart LR" and len(drawn) == len(set(drawn)) == 4
    assert list(who.as_mermaid(found()))[1:] == ["    back"]


# ---- Against a search that only tries


def search(lines):
    """Each principal's best way, found forwards by trying everything: (is it uncertain, steps)."""
    grants = [
        (on.level.value, on.id, b.member, b.role, b.condition and b.condition.title)
        for b, on in lines
    ]
    runs_as = {"r/front": FRONT, "r/back": BACK}

    def has(member, permission, kind=None, id=None, levels=None):
        """Whether the member has it there: None for no, else whether that is uncertain."""
        answers = []
        for level, where, holder, role, condition in grants:
            above = level in (levels or ("project", "folder", "organization"))
            if holder == member and (above or (level, where) == (kind, id)):
                held = ROLES[role.removeprefix("roles/")]
                if held == "?" or permission in held.split(";"):
                    answers.append(held == "?" or bool(condition))
        return min(answers, default=None)

    def both(member, first, others):
        second = [o for o in others if o is not None]
        return [first or min(second)] if first is not None and second else []

    def others(member, permissions, *places):
        return [
            has(m, permission, *place)
            for m in (member, "allUsers", "allAuthenticatedUsers")
            for permission in permissions
            for place in places
        ]

    def moves(member):
        """(where one gets to, whether that is uncertain): the end, or an account, or through one."""
        function = ("function", "r/back")
        for permission in ("run.routes.invoke", "run.services.setIamPolicy", "run.services.sshRoot"):
            yield "end", has(member, permission, *function)
        yield "end", has(member, "resourcemanager.projects.setIamPolicy")
        yield "end", has(member, "resourcemanager.folders.setIamPolicy", levels=("folder", "organization"))
        updates = others(member, ["run.services.update"], function)
        for unsure in both(member, has(member, "iam.serviceAccounts.actAs", "account", BACK), updates):
            yield "end", unsure
        for email in (FRONT, BACK, OTHER):
            account = ("account", email)
            for p in ("getOpenIdToken", "getAccessToken", "signJwt", "signBlob", "setIamPolicy"):
                yield email, has(member, f"iam.serviceAccounts.{p}", *account)
            yield email, has(member, "iam.serviceAccountKeys.create", *account)
            code = ["run.services.update", "run.services.create", "cloudbuild.builds.create"]
            places = [("function", name) for name in runs_as]
            for unsure in both(
                member, has(member, "iam.serviceAccounts.actAs", *account), others(member, code, *places)
            ):
                yield email, unsure
            for name, runs in runs_as.items():
                if runs == email:
                    yield email, has(member, "run.services.sshRoot", "function", name)
            yield f"through {email}", has(member, "iam.serviceAccounts.implicitDelegation", *account)

    def passing(member):
        """What an account can do for those who pass through it."""
        for email in (FRONT, BACK, OTHER):
            for p in ("getOpenIdToken", "getAccessToken", "signJwt", "signBlob"):
                yield email, has(member, f"iam.serviceAccounts.{p}", "account", email)
            yield f"through {email}", has(member, "iam.serviceAccounts.implicitDelegation", "account", email)

    def best(place, seen):
        """The best way on from a place that is not in `seen`."""
        if place == "end":
            return (False, 0)
        ways = []
        through = place.startswith("through ")
        email = place.removeprefix("through ")
        member = email if ":" in email or email.startswith("all") else f"serviceAccount:{email}"
        for target, unsure in (passing if through else moves)(member):
            if unsure is not None and target not in seen:
                rest = best(target, seen | {target})
                if rest:
                    ways.append((unsure or rest[0], rest[1] + 1))
        return min(ways, default=None)

    members = {grant[2] for grant in grants}
    ways = {m: best(m.removeprefix("serviceAccount:"), {m.removeprefix("serviceAccount:")}) for m in members}
    return {member: way for member, way in ways.items() if way}


def test_random_projects_agree_with_a_search_that_tries_everything():
    dice = random.Random(20261126)
    principals = [EVE, MALLORY, "allAuthenticatedUsers", *(f"serviceAccount:{e}" for e in (FRONT, BACK, OTHER))]
    places = [
        ("function", "r/front"), ("function", "r/back"), ("project", "p"), ("folder", "7"),
        *(("account", email) for email in (FRONT, BACK, OTHER)) , *(("account", e) for e in (FRONT, OTHER)),
    ]  # fmt: skip
    lengths = []
    for _ in range(200):
        lines = [
            on(*dice.choice(places), dice.choice(principals), dice.choice(list(ROLES)), dice.choice(["", "", "", "at night"]))
            for _ in range(dice.randint(6, 18))
        ]  # fmt: skip
        chains = who.Reach(facts(lines), "r/back").chains()
        assert {m: (not c.certain, len(c.steps)) for m, c in chains.items()} == search(lines), lines
        dice.shuffle(lines)  # the order in which policies are read means nothing
        again = who.Reach(facts(lines), "r/back").chains()
        assert again == chains
        lengths += [len(chain.steps) for chain in chains.values()]
    assert max(lengths) >= 4 and len(lengths) > 300  # or they would show little
