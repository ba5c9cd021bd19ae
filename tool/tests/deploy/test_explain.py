"""deploy.sh explain says what the platform answers, and does not guess what it cannot know."""

import contextlib
import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import time

import pytest
import requests
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from local_toy import TITLES, Local, under
from recorded_cloud import TOY, policy, service
from test_deploy_commands import unknown_to_gcloud
from tool.deploy import explain, explain_known, explain_token
from tool.deploy.gcloud import Answer
from tool.local import tokens
from tool.testing import ROOT, run, succeeded

# All tests of this file run in one process, so that the app is deployed only once.
pytestmark = pytest.mark.xdist_group("test_explain")

PRIVATE, CERTIFICATE = tokens.key_pair("elsewhere")
KEY = serialization.load_pem_private_key(PRIVATE, None)  # a key that belongs to nobody
SUFFIX = "@local-project.iam.gserviceaccount.com"


# ---- tokens


def segment(content):
    return tokens.encoded((content if isinstance(content, str) else json.dumps(content)).encode())


def signed(key, header, claims):
    """A signed token. Leaves out members of the header and the claims that are None."""
    header, claims = (
        {k: v for k, v in part.items() if v is not None} if isinstance(part, dict) else part
        for part in (header, claims)
    )
    text = f"{segment(header)}.{segment(claims)}"
    signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{text}.{tokens.encoded(signature)}"


class Forge:
    """Makes tokens like a valid one from front for back, except for what a test changes."""

    def __init__(self, local, good):
        self.key, self.good = tokens.private_key(local.state), good
        self.header, self.claims = (
            json.loads(tokens._decoded(part)) for part in good.split(".")[:2]
        )

    def __call__(self, key=None, header=(), text=None, **changes):
        claims = {**self.claims, **changes}
        header = {**self.header, **dict(header)}
        return signed(key or self.key, header, text(claims) if text else claims)


TOKENS = {
    "none": lambda forge: "",
    "good": lambda forge: forge(),
    "garbage": lambda forge: "garbage",
    "three parts of garbage": lambda forge: "a.b.c",
    "an access token": lambda forge: "ya29.something",
    "two tokens": lambda forge: f"{forge()} {forge()}",
    "a line": lambda forge: forge() + "=",
    "no signature": lambda forge: forge().rpartition(".")[0] + ".",
    "the signature that a function gets": lambda forge: (
        forge().rpartition(".")[0] + ".SIGNATURE_REMOVED_BY_GOOGLE"
    ),
    "one letter of the signature differs": lambda forge: differently(forge()),
    "signed by another key": lambda forge: forge(key=KEY),
    "another kid": lambda forge: forge(header={"kid": "another"}),
    "no kid": lambda forge: forge(header={"kid": None}),
    "alg none": lambda forge: forge(header={"alg": "none"}),
    "alg HS256": lambda forge: forge(header={"alg": "HS256"}),
    "crit": lambda forge: forge(header={"crit": ["exp"]}),
    "another typ": lambda forge: forge(header={"typ": "dpop+jwt"}),
    "a JWT-SVID": lambda forge: forge(key=KEY, sub="spiffe://example.com/a"),
    "another issuer": lambda forge: forge(iss="https://accounts.example"),
    "expired": lambda forge: forge(exp=int(time.time()) - 300),
    "not valid yet": lambda forge: forge(nbf=2**33),
    "issued tomorrow": lambda forge: forge(iat=int(time.time()) + 86400),
    "exp is a text": lambda forge: forge(exp="4102444800"),
    "exp is true": lambda forge: forge(exp=True),
    "exp is endless": lambda forge: forge(
        text=lambda c: json.dumps({**c, "exp": 0})[:-2] + "1e999}"
    ),
    "exp is not a number": lambda forge: forge(exp=float("nan")),
    "no iat": lambda forge: forge(iat=None),
    "another audience": lambda forge: forge(aud="https://elsewhere.example"),
    "an audience with a slash": lambda forge: forge(aud=forge.claims["aud"] + "/"),
    "an audience with a path": lambda forge: forge(aud=forge.claims["aud"] + "/path"),
    "a list of audiences": lambda forge: forge(aud=[forge.claims["aud"]]),
    "gcloud's own audience": lambda forge: forge(aud=explain_token.GCLOUD),
    "no email": lambda forge: forge(email=None),
    "sub is a number": lambda forge: forge(sub=5),
    "the sub of nobody": lambda forge: forge(sub="1" * 21),
    "a name twice": lambda forge: forge(text=lambda c: json.dumps(c)[:-1] + ', "sub": "1"}'),
    "claims in a list": lambda forge: forge(text=lambda c: [c]),
    "claims with a mark before them": lambda forge: forge(text=lambda c: "\ufeff" + json.dumps(c)),
    "deep": lambda forge: forge(text=lambda c: "[" * 5000),
    "too large": lambda forge: forge(more="x" * 20000),
}


def differently(token):
    """The same signature in a form that base64url forbids: the unused bits of its last letter are not all zero."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + letters[letters.index(token[-1]) + 1]


# ---- on this machine


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The toy app, deployed once."""
    local = Local(shutil.copytree(TOY, tmp_path_factory.mktemp("app") / "it's an app"))
    try:
        succeeded(local.deploy_sh())
        yield local
    finally:
        local.end()


@pytest.fixture(scope="module")
def urls(local):
    exported = succeeded(local.deploy_sh("env")).stdout
    return {name.lower(): url for name, url in re.findall(r"(\w+)_URL=(\S+)", exported)}


@pytest.fixture(scope="module")
def token_of(local):
    """An ID token of a service account for a URL, from gcloud."""

    def token_of(name, url, *more):
        account = f"--impersonate-service-account={name}{SUFFIX} --audiences={url}"
        said = local.gcloud(" ".join(["auth print-identity-token", account, *more]))
        return succeeded(said).stdout.strip()

    return token_of


@pytest.fixture(scope="module")
def forge(local, urls, token_of):
    return Forge(local, token_of("front-sa", urls["back"], "--include-email"))


@pytest.fixture(scope="module")
def known(local, urls):
    """What explain knows about back when it judges a token."""
    project = json.loads((local.state / "project.json").read_text())
    published = f"http://127.0.0.1:{project['token_port']}/oauth2/v1/certs"
    front = explain_known.Grant(FRONT, "roles/run.invoker", "", "service back", Answer.YES)
    listed = json.loads(local.gcloud("iam service-accounts list --format=json").stdout)
    return explain_known.Known(
        signer="this local project", project=project["id"], region=project["region"],
        ours="@local-project.iam.gserviceaccount.com", at_platform=True, name="back",
        urls=(urls["back"],), more_audiences=(), ingress="all", open=False, grants=(front,),
        unread=(), accounts={one["uniqueId"]: one["email"] for one in listed},
        certificates=requests.get(published, timeout=20).json(),
    )  # fmt: skip


def test_at_a_terminal_it_asks_for_a_token(local, urls):
    main, terminal = pty.openpty()
    try:
        waiting = subprocess.Popen(
            local.command("explain", urls["back"]), env=local.env,
            stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert waiting.stderr.readline().startswith("Paste a token")
        os.write(main, b"\x04")
        said = waiting.communicate(timeout=60)
    finally:
        os.close(main)
        os.close(terminal)
    assert (said, waiting.returncode) == (("403: no token came, and back does not let in everyone.\n"
        "this changes it: gcloud auth print-identity-token\n"
        "after that it would still be refused, until: gcloud run services add-iam-policy-binding back"
        " --project=local-project --region=us-central1 --member=user:you@example.com"
        " --role=roles/run.invoker\n", ""), 3)  # fmt: skip


@pytest.fixture
def judged(urls, known):
    """The verdict of explain.py on a call of back with a token; `changes` sets what is known."""

    def judged(sent, url=None, **changes):
        found = explain.verdict(url or urls["back"], sent, known._replace(**changes), time.time())
        return found._replace(answer=found.answer.value)

    return judged


def asked(url, token):
    """The status of the platform's own answer; "let in" if the function answered."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = requests.options(url, headers=headers, timeout=20, allow_redirects=False)
    return (
        "let in" if answer.status_code == 200 and answer.json()["name"] else str(answer.status_code)
    )


def explained(local, url, sent):
    """The verdict that deploy.sh prints. Checks that it never prints the token."""
    command = local.command("explain", url) if isinstance(local, Local) else local.command(url)
    done = subprocess.run(
        command, env=local.env, input=sent, text=True, capture_output=True, timeout=120
    )
    holds_nothing_of(done.stdout + done.stderr, sent)
    answer = done.stdout.partition(":")[0]
    assert (done.stderr, done.returncode) == ("", 0 if answer == "let in" else 3)
    sentence, command, *_ = done.stdout.split("\n")
    return explain_known.Verdict(answer, sentence, command.removeprefix("this changes it: "))


def holds_nothing_of(text, sent):
    for part in re.split(r"[\s.]", sent):
        assert len(part) < 20 or part[:20] not in text


@pytest.mark.parametrize("kind", TOKENS)
def test_the_verdict_on_a_token_is_the_platform_s_answer(urls, forge, judged, kind):
    token = TOKENS[kind](forge)
    found = judged(token)
    assert found.answer == asked(urls["back"], token), found.why
    holds_nothing_of(found.why, token)


def test_the_tokens_of_this_test_meet_every_answer_and_many_reasons(forge, judged):
    found = [judged(make(forge)) for make in TOKENS.values()]
    assert {verdict.answer for verdict in found} == {"401", "403", "let in"}
    assert len({verdict.why for verdict in found}) > 20


@pytest.mark.parametrize(
    "url",
    ["{back}/healthz", "{back}/%68ealthz?a=b", "{back}/healthz/", "{back}/eventlog", "{back}/_ah/x", "{back}/a?b#c"],
)  # fmt: skip
def test_the_verdict_on_a_path_is_the_platform_s_answer(urls, forge, judged, url):
    url = url.format(**urls)
    assert judged(forge(), url).answer == asked(url, forge())


INVOKER = "run services {}-iam-policy-binding closed --region=us-central1 --role=roles/run.invoker --member={}"
UPDATE = "run services update closed --region=us-central1 {}"
PROJECT = (
    "projects {}-iam-policy-binding local-project --condition=None --role={} --member=serviceAccount:back-sa"
    + SUFFIX
)
BACK = "serviceAccount:Back-SA" + SUFFIX  # IAM ignores the case of addresses
CHANGES = {
    "nothing": ([], []),
    "a binding": ([INVOKER.format("add", BACK)], [INVOKER.format("remove", BACK)]),
    "everyone": ([INVOKER.format("add", "allUsers")], [INVOKER.format("remove", "allUsers")]),
    "everyone with a token": (
        [INVOKER.format("add", "allAuthenticatedUsers")], [INVOKER.format("remove", "allAuthenticatedUsers")],
    ),
    "the check is off": ([UPDATE.format("--no-invoker-iam-check")], [UPDATE.format("--invoker-iam-check")]),
    "from inside only": ([UPDATE.format("--ingress=internal")], [UPDATE.format("--ingress=all")]),
    "a role on the project": ([PROJECT.format("add", "roles/writer")], [PROJECT.format("remove", "roles/writer")]),
    "a role without the permission": ([PROJECT.format("add", "roles/run.viewer")], [PROJECT.format("remove", "roles/run.viewer")]),
}  # fmt: skip


@contextlib.contextmanager
def changed(local, do, undo):
    try:
        for line in do:
            succeeded(local.gcloud(line))
        yield
    finally:
        for line in undo:
            succeeded(local.gcloud(line))


@pytest.mark.parametrize("change", CHANGES)
def test_the_verdict_after_a_change_is_the_platform_s_answer(local, urls, token_of, change):
    token = token_of("back-sa", urls["closed"], "--include-email")
    with changed(local, *CHANGES[change]):
        for sent in (token, "", "garbage")[: 3 if "everyone" in change else 1]:
            found = explained(
                local, urls["closed"], f"Authorization: Bearer {sent}\n" if sent else ""
            )
            assert found.answer == asked(urls["closed"], sent), found.why


@pytest.mark.parametrize("title", TITLES)
def test_explain_does_not_know_what_a_condition_decides_whose_title_holds_a_bar(
    local, urls, token_of, title
):
    bindings = [
        f"run services {{}}-iam-policy-binding closed --region=us-central1 --role=roles/run.invoker --member={BACK} {under(title)}",
        f"projects {{}}-iam-policy-binding local-project --role=roles/run.admin --member={BACK} {under(title)}",
    ]
    with changed(local, *([line.format(verb) for line in bindings] for verb in ("add", "remove"))):
        found = explained(
            local, urls["closed"], token_of("back-sa", urls["closed"], "--include-email")
        )
    assert found.answer == "unknown"
    for role, where in (("run.invoker", "service closed"), ("run.admin", "project local-project")):
        doubt = f"the binding of roles/{role} in the policy of {where} has the condition {explain_token.shown(title)}"
        assert re.search(re.escape(doubt) + r"(; |\.$)", found.why), found.why


def test_the_commands_that_are_printed_for_no_token_are_all_that_it_takes(local, urls):
    command = local.command("explain", urls["closed"])
    said = subprocess.run(command, env=local.env, input="", text=True, capture_output=True, timeout=120)
    first, second = (line.partition(": gcloud ")[2] for line in said.stdout.splitlines()[1:])
    assert asked(urls["closed"], local.gcloud(first).stdout.strip()) == "403"
    with changed(local, [second], [second.replace("add-iam", "remove-iam")]):
        assert asked(urls["closed"], local.gcloud(first).stdout.strip()) == "let in"


def test_the_command_that_is_printed_changes_the_answer(local, urls, token_of):
    token = token_of("closed-sa", urls["back"])
    refused = explained(local, urls["back"], token)
    assert refused.answer == asked(urls["back"], token) == "403"
    command = refused.command.removeprefix("gcloud ")
    with changed(local, [command], [command.replace("add-iam", "remove-iam")]):
        assert (
            explained(local, urls["back"], token).answer == asked(urls["back"], token) == "let in"
        )
    assert explained(local, urls["back"], token).answer == asked(urls["back"], token) == "403"


def test_you_are_known_by_your_address(local, urls):
    token = succeeded(local.gcloud("auth print-identity-token")).stdout
    for name, answer in (("front", "let in"), ("back", "403")):
        found = explained(local, urls[name], token)
        assert found.answer == asked(urls[name], token.strip()) == answer
        assert "user:you@example.com may" in found.why


def test_a_new_token_by_the_printed_command_is_let_in(local, urls, token_of):
    found = explained(local, urls["back"], token_of("front-sa", urls["front"], "--include-email"))
    assert found.answer == "401"
    assert f"made for {urls['front']}, and back answers to {urls['back']}." in found.why
    new = succeeded(local.gcloud(found.command.removeprefix("gcloud "))).stdout
    assert (
        explained(local, urls["back"], new).answer == asked(urls["back"], new.strip()) == "let in"
    )


def test_a_deleted_account_is_nobody_even_when_made_anew(local, urls, token_of):
    succeeded(local.gcloud("iam service-accounts create passing"))
    member = f"serviceAccount:passing{SUFFIX}"
    succeeded(local.gcloud(INVOKER.format("add", member)))
    sent = token_of("passing", urls["closed"], "--include-email")
    assert explained(local, urls["closed"], sent).answer == asked(urls["closed"], sent) == "let in"
    succeeded(local.gcloud(f"iam service-accounts delete passing{SUFFIX} --quiet"))
    try:
        assert explained(local, urls["closed"], sent).answer == asked(urls["closed"], sent) == "403"
        succeeded(local.gcloud("iam service-accounts create passing"))
        succeeded(local.gcloud(INVOKER.format("add", member)))
        found = explained(local, urls["closed"], sent)
        assert found.answer == asked(urls["closed"], sent) == "403"
        assert "deleted, or made anew" in found.why
    finally:
        succeeded(local.gcloud(f"iam service-accounts delete passing{SUFFIX} --quiet"))
        local.set_policy("closed")


def test_an_address_where_nothing_is(local, urls, forge):
    """The URL of a deleted function, for which the platform answers, and one that is not the platform's."""
    port = "http://127.0.0.1:9"
    with pytest.raises(requests.ConnectionError):
        asked(port, forge())
    assert explained(local, port, forge()).answer == "unknown"
    succeeded(local.gcloud("run services delete closed --region=us-central1 --quiet"))
    try:
        found = explained(local, urls["closed"], forge())
        assert found.answer == asked(urls["closed"], forge()) == "404"
        listing = found.why.partition("gcloud ")[2].partition(" shows")[0]
        assert succeeded(local.gcloud(listing)).stdout
    finally:
        succeeded(local.deploy_sh())


def test_localhost_is_the_same_host(local, urls, forge):
    url = urls["back"].replace("127.0.0.1", "localhost")
    assert explained(local, url, forge()).answer == asked(url, forge()) == "let in"


# ---- what cannot be known


def grant(member, role="roles/run.invoker", condition="", where="service back", holds="yes"):
    return explain_known.Grant(member, role, condition, where, Answer(holds))


UNREAD = explain_known.Unread("service back", True)
UNREAD_ABOVE = explain_known.Unread("project p", False)


def split(known):
    """Grants, and policies that cannot be read, as two settings."""
    grants = tuple(one for one in known if isinstance(one, explain_known.Grant))
    return {"grants": grants, "unread": tuple(one for one in known if one not in grants)}


FRONT = "serviceAccount:front-sa" + SUFFIX


@pytest.mark.parametrize(
    "grants, said",
    [
        ([grant("group:admins@example.com")], "who is in group:admins@example.com is not known here"),
        ([grant("domain:example.com")], "domain:example.com"),
        ([grant("principalSet://iam.googleapis.com/x")], "principalSet://iam.googleapis.com/x"),
        ([grant(FRONT, condition="on Mondays")], "has the condition on Mondays"),
        ([grant(FRONT, role="roles/x", holds="unknown")], "the role in the binding of roles/x"),
        ([UNREAD], "the policy of service back cannot be read"),
        ([UNREAD_ABOVE], "the policy of project p cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_known_is_neither_in_nor_refused(forge, judged, grants, said):
    found = judged(forge(), **split(grants))
    assert (found.answer, said in found.why) == ("unknown", True), found.why
    # A grant that certainly lets the caller in is enough, even if something else is unknown.
    assert judged(forge(), **split([*grants, grant(FRONT)])).answer == "let in"


@pytest.mark.parametrize(
    "grants, answer",
    [
        ([UNREAD], "unknown"),
        ([grant("allUsers", condition="on Mondays")], "unknown"),
        ([grant("group:admins@example.com")], "401"),  # "everyone" is not a member of any group
        ([UNREAD_ABOVE], "401"),
        ([grant("group:admins@example.com", holds="no")], "401"),
    ],
)
def test_a_bad_token_is_refused_only_where_not_everyone_may_be_let_in(judged, grants, answer):
    assert judged("garbage", **split(grants)).answer == answer


def test_a_role_that_does_not_hold_the_permission_leaves_no_doubt(forge, judged):
    viewers = grant("group:admins@example.com", role="roles/viewer", holds="no")
    assert judged(forge(), grants=(viewers,)).answer == "403"


def test_a_number_that_no_known_account_has_is_unknown(forge, judged):
    for accounts in ({}, None):
        found = judged(forge(email=None), accounts=accounts)
        assert found.answer == "unknown" and "service-accounts list" in found.why
    # If the token has an address, the list is not needed.
    assert judged(forge(), accounts=None).answer == "let in"


@pytest.mark.parametrize(
    "aud, answer",
    [
        ("{back}/path", "unknown"),
        ("{back}/path?a=b", "401"),
        ("{back}.example", "401"),
        ("764086051850-x.apps.googleusercontent.com", "unknown"),
        ("mine", "let in"),
        ("mine/", "401"),
    ],
)
def test_audiences_that_google_does_not_say_it_takes(urls, forge, judged, aud, answer):
    token = forge(aud=aud.format(**urls))
    assert judged(token, signer="Google", more_audiences=("mine",)).answer == answer


# ---- what is pasted, and what comes next


@pytest.mark.parametrize(
    "pasted",
    [
        "Authorization: Bearer {}", "authorization:{}", "X-Serverless-Authorization: bearer {}",
        '{{"id_token": "{}"}}', '{{"token": "{}"}}', ' {{\n  "access_token": "ya29.x",\n  "id_token": "{}"\n}}\n',
    ],
)  # fmt: skip
def test_a_header_or_the_answer_of_a_token_endpoint_can_be_pasted_whole(forge, judged, pasted):
    assert judged(pasted.format(forge())).answer == "let in"
    assert judged(pasted.format(forge(exp=1))).answer == "401"


def test_an_answer_with_an_access_token_alone_says_what_that_is(judged):
    assert "is an access token" in judged('{"access_token": "ya29.x", "expires_in": 3599}').why
    for broken in ('{"id_token": 5}', '{"id_token"', "{}", "[" * 5000):
        assert "is not a JWT" in judged(broken).why


def test_an_issuer_without_https_is_unknown_if_all_else_is_good(forge, judged):
    found = judged(forge(iss="accounts.google.com"), signer="Google")
    assert found.answer == "unknown" and "is not documented" in found.why
    assert judged(forge(iss="accounts.google.com", exp=1), signer="Google").answer == "401"
    assert judged(forge(iss="accounts.google.com", key=KEY), signer="Google").answer == "401"
    assert judged(forge(iss="accounts.google.com")).answer == "401"  # the local project refuses it


def test_let_in_names_what_was_not_looked_at(forge, judged):
    for verdict in (judged(forge(), signer="Google"), judged("", open=True, signer="Google")):
        assert "Identity-Aware Proxy (IAP), deny policies, VPC Service Controls" in verdict.why
    assert "Not looked at" not in judged(forge()).why  # the local project has none of them


def test_what_an_account_signed_itself_is_answered_with_that_account_s_token(forge, judged):
    email = FRONT.partition(":")[2]
    found = judged(forge(key=KEY, iss=email, sub=email, email=None))
    assert found.answer == "401" and f"was signed by {email} itself" in found.why
    assert f"--impersonate-service-account={email}" in found.command and found.then == ()
    # Only the address of a service account gets into a command.
    assert "impersonate" not in str(judged(forge(key=KEY, iss=f"{email} --x", email=None)).command)


def test_a_token_without_an_address_is_renewed_for_its_account(forge, judged):
    found = judged(forge(email=None, exp=1))
    assert f"--impersonate-service-account={FRONT.partition(':')[2]}" in found.command


def test_what_comes_next_is_said_where_the_first_command_is_not_enough(forge, judged, known):
    binding = "--role=roles/run.invoker"
    for sent in ("", "garbage", forge(exp=1)):
        mine = forge(exp=1) == sent
        found = judged(sent, you="user:ada@example.com", grants=())
        [then] = found.then
        assert then[3] == "add-iam-policy-binding" and binding in then
        assert (f"--member={FRONT}" if mine else "--member=user:ada@example.com") in then
        # There is no next step if the principal may call, or if that is not known.
        assert judged(sent, you="user:ada@example.com", grants=(grant("user:Ada@example.com"), grant(FRONT))).then == ()
        assert judged(sent, you="user:ada@example.com", grants=(grant("group:a@example.com"),)).then == ()
    inside = judged("", ingress="internal", you="user:ada@example.com", grants=())
    assert "--ingress=all" in inside.command and [command[1:3] for command in inside.then] == [
        ("auth", "print-identity-token"), ("run", "services"),
    ]  # fmt: skip
    assert judged(forge(), ingress="internal").then == ()


def test_a_claim_does_nothing_to_the_terminal(forge, judged):
    why = judged(forge(aud="\x1b[2Jx\n")).why
    assert why.isprintable() and "made for ?[2Jx?," in why


def test_how_long_ago_a_token_expired_is_said(urls, forge, known):
    found = explain.verdict(urls["back"], forge(), known, forge.claims["exp"] + 90)
    assert found.answer is explain_known.Reply.UNAUTHORIZED
    assert found.why == "the token expired 1.5 minutes ago"


# ---- on the fake Google Cloud


HEADER = {"alg": "RS256", "kid": "google", "typ": "JWT"}
URL = "https://front-123456789012.us-east1.run.app"
OLD = "https://front-x3k5-ue.a.run.app"


def serving(name, *urls, region="us-east1", ingress="all", audiences=()):
    """A service with these URLs, as gcloud shows it."""
    shown = service(name, region, "function-trust-map")
    shown["status"]["url"] = urls[-1]
    notes = {"urls": json.dumps(urls), "ingress": ingress, "custom-audiences": json.dumps(audiences)}
    annotations = {f"run.googleapis.com/{key}": value for key, value in notes.items()}
    shown["metadata"]["annotations"] = annotations
    return shown


SERVICE = serving("front", URL, OLD, audiences=["https://api.example.com"])
ADA = "user:Ada@example.com"


@pytest.fixture
def noting(cloud):
    """The fake Google Cloud. It publishes the certificate that ada's tokens are signed with."""
    (cloud.folder / "certificates").write_text(json.dumps({"google": CERTIFICATE.decode()}))
    cloud.program("curl", '#!/bin/sh\necho "$@" > "$RECORD/asked"\ncat "$RECORD/certificates"\n')
    options = (f"--app={cloud.app}", "--project=p-1")  # no region: that of the service is used
    cloud.command = lambda url: [str(ROOT / "deploy.sh"), *options, "explain", url]
    return cloud


def adas(**changes):
    now = int(time.time())
    claims = {"iss": explain_token.ISSUER, "aud": OLD, "sub": "1", "iat": now, "exp": now + 600}
    return signed(KEY, HEADER, {**claims, "email": "ada@example.com", **changes})


def the_policy_is(cloud, found=None, **more):
    cloud.answer("run services get-iam-policy front", found, **more)


@pytest.mark.parametrize(
    "url",
    [URL, OLD + "/path", URL.replace("//", "//tag---"), URL.upper().replace("HTTPS", "https")],
)
def test_every_url_of_a_service_leads_to_it(noting, url):
    other = serving("other", "https://other-1.us-west1.run.app", region="us-west1")
    noting.answer("run services list", [other, SERVICE])
    the_policy_is(noting, policy((ADA, "roles/run.invoker")))
    token = adas()
    assert explained(noting, url, token).why.startswith(
        "let in: user:ada@example.com may call front"
    )
    commands = "\n".join(" ".join(words) for words in noting.commands())
    commands += (noting.folder / "asked").read_text()
    assert "get-iam-policy front --project=p-1 --region=us-east1" in commands
    assert "www.googleapis.com/oauth2/v1/certs" in commands
    holds_nothing_of(commands, token)


def test_a_role_above_lets_in(noting):
    noting.answer("run services list", [SERVICE])
    noting.grant((ADA, "roles/owner"))
    noting.answer("iam roles describe roles/owner", {"includedPermissions": ["run.routes.get", "run.routes.invoke"]})
    found = explained(noting, URL, adas())
    assert "by the binding of roles/owner in the policy of project p-1" in found.why


def test_who_has_no_binding_is_refused_and_the_command_names_the_project(noting):
    noting.answer("run services list", [SERVICE])
    found = explained(noting, URL, adas(aud="https://api.example.com"))
    assert found.why.startswith("403: user:ada@example.com may not call front: neither its policy")
    assert found.command == (
        "gcloud run services add-iam-policy-binding front --project=p-1 --region=us-east1"
        " --member=user:ada@example.com --role=roles/run.invoker"
    )


def test_where_the_policy_has_a_condition_the_command_says_which_binding_is_meant(noting):
    noting.answer("run services list", [SERVICE])
    the_policy_is(noting, policy(("user:bob@example.com", "roles/run.invoker", "on Mondays")))
    assert explained(noting, URL, adas(aud="https://api.example.com")).command.endswith("--condition=None")


def test_a_service_that_is_not_there(noting):
    found = explained(noting, URL, adas())
    assert found.why.startswith(
        f"404: this project has no service at {URL.removeprefix('https://')}: gcloud run services list --project=p-1"
    )
    assert not found.command


@pytest.mark.parametrize(
    "url",
    [
        "https://www.example.com/",
        "http://localhost:8080",
        "https://us-east1-p-1.cloudfunctions.net/front",
        "http://[::1]:8080/a",
    ],
)
def test_a_proxy_or_load_balancer_in_between_is_named(noting, url):
    noting.answer("run services list", [SERVICE])
    assert explained(noting, url, adas()).why.startswith("unknown: at ")


def test_a_url_of_the_functions_api_is_matched_with_its_path(noting):
    api = "https://us-east1-p-1.cloudfunctions.net"
    other = serving("other", URL.replace("front", "other"), audiences=[f"{api}/other"])
    noting.answer("run services list", [other, serving("front", URL, OLD, audiences=[f"{api}/front"])])
    the_policy_is(noting, policy((ADA, "roles/run.invoker")))
    for url in (f"{api}/front", f"{api}/front/a?b", f"{api}/front/"):
        assert "may call front" in explained(noting, url, adas(aud=f"{api}/front")).why
    assert "made for https" in explained(noting, f"{api}/other", adas(aud=f"{api}/front")).why
    for url in (api, f"{api}/frontier", f"{api}/", "https://us-west1-p-1.cloudfunctions.net/front"):
        assert explained(noting, url, adas()).why.startswith("unknown: at ")


DENIED = {"stderr": "ERROR: (gcloud) PERMISSION_DENIED: Permission denied\n", "status": 1}


def test_a_policy_that_cannot_be_read_is_unknown(noting):
    noting.answer("run services list", [SERVICE])
    the_policy_is(noting, **DENIED)
    assert "policy of service front cannot be read" in explained(noting, URL, adas()).why
    assert "Unless everyone may call, it is 403" in explained(noting, URL, "").why


@pytest.mark.parametrize("readable", ["the project's", "none"])
def test_what_is_above_and_cannot_be_read_is_unknown(noting, readable):
    noting.answer("run services list", [SERVICE])
    noting.answer("projects get-ancestors-iam-policy", **DENIED)
    noting.answer("projects get-iam-policy", **({"found": {}} if readable != "none" else DENIED))
    found = explained(noting, URL, adas())
    assert found.answer == "unknown" and "project p-1 cannot be read" in found.why
    the_policy_is(noting, policy((ADA, "roles/run.invoker")))
    assert explained(noting, URL, adas()).answer == "let in"


def test_without_google_s_certificates_no_token_is_called_good_or_bad(noting):
    noting.answer("run services list", [SERVICE])
    (noting.folder / "certificates").unlink()
    noting.program("curl", "#!/bin/sh\nexit 22\n")
    assert "no certificates of Google came" in explained(noting, URL, adas()).why


def test_a_number_is_looked_up_among_the_service_accounts(noting):
    noting.answer("run services list", [SERVICE])
    noting.answer("iam service-accounts list", [{"uniqueId": "123", "email": "a@p-1.iam.gserviceaccount.com"}])
    found = explained(noting, URL, adas(sub="123", email=None))
    assert "serviceAccount:a@p-1.iam.gserviceaccount.com may not call" in found.why
    gone = explained(noting, URL, adas(email="b@p-1.iam.gserviceaccount.com"))
    assert "deleted" in gone.why and gone.command == ""


def test_gcloud_s_own_linter_knows_every_command(noting):
    inside = serving("inner", URL.replace("front", "inner"), ingress="internal")
    noting.answer("run services list", [SERVICE, inside])
    account = adas(email="a@elsewhere.iam.gserviceaccount.com", exp=1)
    said = [explained(noting, url, sent).command for url, sent in (
        (URL, adas()), (URL, ""), (URL, account), (URL.replace("front", "inner"), ""),
    )]  # fmt: skip
    assert [command.split()[3] for command in said if "services" in command] == [
        "add-iam-policy-binding",
        "update",
    ]
    lines = {shlex.join(c) for c in noting.commands()} | set(said)
    assert len(lines) > 9 and "" not in lines
    assert unknown_to_gcloud(lines, noting.folder) == []


# ---- wrong words


@pytest.mark.parametrize(
    "words, said",
    [
        (["explain"], "explain needs the URL of the call, and a token"),
        (["explain", "ftp://x"], "explain needs a URL that begins with http:// or https://"),
        (["explain", "http://[::1"], "explain needs a URL that begins with http:// or https://"),
        (["explain", "http://[:::]:80/eyJhbGciOi"], "explain needs a URL that begins with http:// or https://"),
        (["explain", "eyJhbGciOi"], "explain needs a URL that begins with http:// or https://"),
        (["explain", "https://x/", "eyJhbGciOi"], "explain takes one URL; the token comes by standard input"),
    ],
)  # fmt: skip
def test_wrong_words_are_answered_in_one_line_that_repeats_no_token(words, said):
    result = run(str(ROOT / "deploy.sh"), *words)
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr and result.stderr.count("\n") == 1
    assert "eyJ" not in result.stderr
