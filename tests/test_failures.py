"""What login answers when something behind it fails: the right status, one sentence, in time."""

import json
import time

import pytest
import requests
from local.testing import Alone, stage, urls
from fakes import Fake, FakeMetadata, as_json

CREDENTIALS = {"username": "grace", "password": "long enough"}
PROFILE = {"username": "grace", "display_name": "Grace", "created_at": "2026-01-01T00:00:00Z"}
HTML = {"Content-Type": "text/html; charset=UTF-8"}


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """login as deploy.sh stages it."""
    folder = stage("login", tmp_path_factory.mktemp("staged") / "login")
    # Its home, too: with a ~/.netrc, which requests would prefer to the token.
    (folder / ".netrc").write_text("machine 127.0.0.1 login mallory password mallory")
    (folder / ".netrc").chmod(0o600)
    return folder


@pytest.fixture(scope="module")
def metadata_server():
    fake = FakeMetadata()
    yield fake
    fake.close()


@pytest.fixture
def metadata(metadata_server):
    metadata_server.behave()
    return metadata_server


@pytest.fixture(scope="module")
def receiver():
    fake = Fake()
    yield fake
    fake.close()


@pytest.fixture
def user_profiles(receiver):
    receiver.requests.clear()
    receiver.answer = as_json(200, {"profile": PROFILE})
    return receiver


class Login(Alone):
    """login between the two fakes."""

    def __init__(self, staged, metadata, user_profiles, **env):
        super().__init__(
            staged,
            "login",
            GOOGLE_CLOUD_PROJECT="p",
            GCE_METADATA_HOST=metadata,
            GCE_METADATA_IP=metadata,
            http_proxy="http://127.0.0.1:9",  # nobody listens there: it must not be used
            **urls(user_profiles),
            **env,
        )

    def log_in(self):
        started = time.monotonic()
        answer = requests.post(self.url, json=CREDENTIALS, timeout=60)
        self.seconds = time.monotonic() - started
        return answer

    def search(self):
        return requests.get(self.url + "/search?q=a", timeout=60)


@pytest.fixture(scope="module")
def warm_login(staged, metadata_server, receiver):
    """login as it is most of the time: with a good token for user-profiles and for search."""
    login = Login(staged, metadata_server.address, receiver.address)
    receiver.answer = as_json(200, {"profile": PROFILE, "results": []})
    assert (login.log_in().status_code, login.search().status_code) == (200, 200)
    yield login
    login.stop()


@pytest.fixture
def login(warm_login, user_profiles):
    warm_login.logged()
    return warm_login


@pytest.fixture
def cold_login(staged, metadata, user_profiles):
    """login just started: it has no token yet."""
    login = Login(staged, metadata.address, user_profiles.address)
    yield login
    login.stop()


def refused_by_platform(request):
    return 403, HTML, "<html><head><title>403 Forbidden</title></head></html>"


def test_login_works_between_the_fakes(login):
    assert login.log_in().json() == {"profile": PROFILE}


def test_only_the_profile_is_passed_on(login, user_profiles):
    leaky = {"profile": {**PROFILE, "password_hash": "scrypt:..."}, "debug": "secret"}
    user_profiles.answer = as_json(200, leaky)
    assert login.log_in().json() == {"profile": PROFILE}


NO_USABLE_ANSWER = "user-profiles gave no usable answer."
NOT_REACHED = "user-profiles cannot be reached."
JSON = {"Content-Type": "application/json"}
OWN_LOG = "; its own log says more"


@pytest.mark.parametrize(
    "answer, sentence, reason",
    [
        (as_json(500, {"error": "inner secret"}), NO_USABLE_ANSWER, "status 500" + OWN_LOG),
        (as_json(503, {"error": "inner secret"}), NO_USABLE_ANSWER, "status 503" + OWN_LOG),
        (as_json(400, {"error": "inner secret"}), NO_USABLE_ANSWER, "status 400" + OWN_LOG),
        (as_json(200, ["inner secret"]), NO_USABLE_ANSWER, "status 200" + OWN_LOG),
        (as_json(200, {"profile": "inner secret"}), NO_USABLE_ANSWER, "no profile in it; is it of"),
        (as_json(200, {"inner": "secret"}), NO_USABLE_ANSWER, "no profile in it; is it of the same"),
        (lambda r: (200, HTML, "<p>inner secret"), NO_USABLE_ANSWER, "status 200" + OWN_LOG),
        (lambda r: (500, HTML, "<p>inner secret"), NO_USABLE_ANSWER, "status 500" + OWN_LOG),
        (lambda r: (401, HTML, "<p>inner secret"), NO_USABLE_ANSWER, "status 401; the platform could"),
        (lambda r: (404, HTML, "<p>inner secret"), NO_USABLE_ANSWER, "status 404; is the function"),
        (lambda r: (200, JSON, "[" * 99999), NO_USABLE_ANSWER, "status 200" + OWN_LOG),
        (lambda r: (200, JSON, '{"pro'), NO_USABLE_ANSWER, "status 200" + OWN_LOG),
        (lambda r: (200, {"Content-Length": "9999", "Connection": "close"}, "{}"),
         NOT_REACHED, "does it run, at http"),
        (refused_by_platform, "user-profiles does not let this function in.",
         "status 403; add the caller to the trust map in deploy.sh"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_one_sentence_and_one_line_in_the_log(
    login, user_profiles, answer, sentence, reason
):
    user_profiles.answer = answer
    got = login.log_in()
    assert (got.status_code, got.json()) == (502, {"error": sentence})
    logged = login.problem()
    assert logged.startswith(f"{sentence} Reason: ") and reason in logged
    assert "secret" not in logged


def test_a_missing_binding_on_search_is_answered_403(login, user_profiles):
    user_profiles.answer = refused_by_platform
    refused = login.search()
    assert refused.status_code == 403
    assert "no binding of roles/run.invoker for serviceAccount:caller@example.com" in refused.text


def test_search_forbidding_something_itself_is_not_a_missing_binding(login, user_profiles):
    user_profiles.answer = as_json(403, {"error": "inner secret"})
    assert login.search().status_code == 502


def test_a_redirect_is_not_followed(login, user_profiles):
    elsewhere = Fake()
    elsewhere.answer = as_json(200, {"profile": PROFILE})
    location = {"Location": f"http://{elsewhere.address}/profiles/verify"}
    user_profiles.answer = lambda request: (307, location, "")
    try:
        assert login.log_in().status_code == 502
        assert "status 307" in login.problem()
        assert elsewhere.requests == []
    finally:
        elsewhere.close()


def test_cookies_are_not_kept_from_one_call_to_the_next(login, user_profiles):
    user_profiles.answer = lambda request: (
        200,
        {"Content-Type": "application/json", "Set-Cookie": "who=grace; Path=/"},
        '{"results": []}',
    )
    assert login.search().status_code == login.search().status_code == 200
    assert [request.headers.get("Cookie") for request in user_profiles.requests] == [None] * 2


def test_what_is_sent_is_the_token_whatever_netrc_says(login, user_profiles):
    assert login.log_in().status_code == 200
    assert user_profiles.requests[0].headers["Authorization"].startswith("Bearer ey")


def test_one_log_in_is_one_trace(login, user_profiles):
    trace = "0af7651916cd43dd8448eb211c80319c"
    header = {"Traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    requests.post(login.url, json=CREDENTIALS, headers=header, timeout=60)
    assert user_profiles.requests[0].headers["Traceparent"] == header["Traceparent"]
    lines = [json.loads(line) for line in login.logged().splitlines()]
    assert [line["logging.googleapis.com/trace"] for line in lines] == [
        f"projects/p/traces/{trace}"
    ]
    assert lines[0]["severity"] == "INFO" and "POST / answered 200" in lines[0]["message"]


def test_a_busy_user_profiles_is_busy_for_login_too(login, user_profiles):
    user_profiles.answer = lambda request: (
        503,
        {"Content-Type": "application/json", "Retry-After": "1"},
        '{"error": "inner secret"}',
    )
    busy = login.log_in()
    assert (busy.status_code, busy.headers["Retry-After"]) == (503, "1")
    assert busy.json() == {"error": "user-profiles is busy."}
    assert "status 503; more instances help" in login.problem()


def test_user_profiles_down(staged, metadata):
    login = Login(staged, metadata.address, "127.0.0.1:9")  # where nobody listens
    try:
        got = login.log_in()
        assert (got.status_code, got.json()) == (502, {"error": NOT_REACHED})
        assert "ConnectionError; does it run, at http://127.0.0.1:9?" in login.problem()
    finally:
        login.stop()


def test_what_is_slow_is_given_up_on(login, user_profiles):
    user_profiles.answer = user_profiles.hang
    got = login.log_in()
    assert (got.status_code, got.json()) == (
        504,
        {"error": "user-profiles did not answer in time."},
    )
    assert login.seconds < 15
    assert "its own log shows what takes so long" in login.problem()


@pytest.mark.parametrize("identity", ["gone", "nonsense", "hang"])
def test_no_token_to_be_had(cold_login, metadata, user_profiles, identity):
    metadata.identity = {
        "gone": lambda request: (404, {}, "inner secret"),
        "nonsense": lambda request: (200, HTML, "inner.secret.eyJ"),
        "hang": metadata.hang,
    }[identity]
    got = cold_login.log_in()
    assert got.status_code == 503
    assert got.json() == {"error": "No identity to call user-profiles with."}
    assert cold_login.seconds < 20
    assert user_profiles.requests == []
    logged = cold_login.problem()
    assert "no ID token for http://127.0.0.1" in logged
    assert "; check the metadata server, or the key file and the clock" in logged
    assert "secret" not in logged


def test_no_metadata_server(staged, user_profiles):
    login = Login(staged, "127.0.0.1:9", user_profiles.address, GCE_METADATA_DETECT_RETRIES="1")
    try:
        assert login.log_in().status_code == 503
        assert login.seconds < 20
        assert user_profiles.requests == []
    finally:
        login.stop()


def test_it_recovers_as_soon_as_tokens_are_to_be_had(cold_login, metadata):
    metadata.identity = lambda request: (404, {}, "")
    assert cold_login.log_in().status_code == 503
    metadata.identity = metadata.good_token
    assert cold_login.log_in().status_code == 200
