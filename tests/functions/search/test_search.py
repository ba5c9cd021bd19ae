"""search: what it finds, and that login is refused until a binding lets it in."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes import as_json
from names import LOGIN, SEARCH
from tool.testing import TRUST_MAP
from visitor import Visitor, verify

HTML = {"Content-Type": "text/html; charset=UTF-8"}
REFUSED = (
    "<h2>Your client does not have permission to get URL <code>/</code> from this server.</h2>"
)


@pytest.fixture
def visitor(project):
    with Visitor(project) as visitor:
        yield visitor


class Door:
    """The binding that lets login call search."""

    def __init__(self, project):
        self.project, self.member = project, f"serviceAccount:{project.email(LOGIN)}"

    def open(self):
        self.gcloud("add")

    def close(self, check=True):
        self.gcloud("remove", check)

    def gcloud(self, verb, check=True):
        flags = f"--member={self.member} --role=roles/run.invoker --region=$REGION"
        self.project.gcloud(f"run services {verb}-iam-policy-binding {SEARCH} {flags}", check)


@pytest.fixture
def door(project):
    door = Door(project)
    yield door
    door.close(check=False)


def test_nobody_may_call_search():
    assert TRUST_MAP[SEARCH] == set()


@pytest.mark.deployed
def test_login_is_refused_until_the_door_is_opened_and_again_when_it_is_closed(
    project, visitor, door
):
    refused = visitor.get("/search?q=password")
    assert refused.status_code == 403
    assert f"no binding of roles/run.invoker for {door.member}" in refused.json()["error"]

    door.open()
    found = project.eventually(lambda: visitor.get("/search?q=password+manager"), 200)
    assert [article["title"] for article in found.json()["results"]] == ["Choose a password"]
    door.close()
    project.eventually(lambda: visitor.get("/search?q=password"), 403)


def test_the_code_of_search_runs_only_where_it_is_let_in(project, visitor, door):
    before = len(project.log(SEARCH))
    assert visitor.get("/search?q=password").status_code == 403
    door.open()
    assert visitor.get("/search?q=password+manager").status_code == 200
    # The lines come in order: anything that the refused call had logged would come before these.
    text = project.log(SEARCH, before, r"for 2 words[^$]*answered 200")
    assert text.count("Searching") == 1


def test_verify_tells_whether_login_is_let_in(project, door):
    token, url = project.token("you", None), project.url(LOGIN)
    assert verify(SEARCH, url, token) == "refused"
    assert verify(SEARCH, url) == "unknown"
    door.open()
    assert verify(SEARCH, url, token) == "in"


# ---- Alone


def test_search_finds_articles_that_hold_every_word(load):
    search = load(SEARCH)

    def titles(query):
        found = search.get("/", query_string={"q": query})
        assert found.status_code == 200
        return [article["title"] for article in found.json["results"]]

    assert titles("riddle") == ["Choose a password"]
    assert titles("PASSWORD hash") == ["What we keep about you"]
    assert titles("zebra") == []
    assert len(titles("")) > 3


def test_login_passes_on_what_was_found_and_nothing_else(load, receiver):
    receiver.answer = as_json(200, {"results": [{"title": "a"}], "debug": "inner secret"})
    answered = load(LOGIN).get("/search?q=a+b")
    assert (answered.status_code, answered.json) == (200, {"results": [{"title": "a"}]})
    assert receiver.requests[0].path == "/?q=a+b"


@pytest.mark.parametrize(
    "status, headers, body, expected",
    [
        (403, HTML, REFUSED, 403),
        (403, HTML, "<p>Access is denied by IAP", 502),  # a refusal that is not about the binding
        (403, {"Content-Type": "application/json"}, '{"error": "inner secret"}', 502),
        (200, {"Content-Type": "application/json"}, '{"inner": "secret"}', 502),
        (200, {"Content-Type": "application/json"}, '["inner secret"]', 502),
        (429, HTML, "", 503),
    ],
)
def test_only_a_missing_binding_is_told_as_one(load, receiver, status, headers, body, expected):
    receiver.answer = lambda request: (status, headers, body)
    answered = load(LOGIN).get("/search?q=a")
    assert answered.status_code == expected
    assert ("no binding of roles/run.invoker" in answered.text) == (expected == 403)
    assert "secret" not in answered.text


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(question=st.text(max_size=60))
def test_any_question(load, question):
    found = load(SEARCH).get("/", query_string={"q": question.encode("utf-8", "replace")})
    assert found.status_code == 200
    assert json.loads(found.text).keys() == {"results"}
