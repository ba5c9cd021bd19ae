"""The metadata server: the answers that Google's client libraries rely on."""

import google.auth.jwt
import pytest
import requests

FLAVOR = {"Metadata-Flavor": "Google"}
DEFAULT = "/instance/service-accounts/default/"
OUTER = "outer-sa@local-project.iam.gserviceaccount.com"


@pytest.fixture
def metadata(local):
    def get(path, headers=FLAVOR, of="outer", method="GET"):
        url = f"http://{local.addresses()[of][1]}/computeMetadata/v1{path}"
        return requests.request(method, url, headers=headers, timeout=20, allow_redirects=False)

    return get


@pytest.mark.parametrize(
    "path, content",
    [
        ("/", "instance/\nproject/\nuniverse/\n"),
        ("/instance/", "id\nregion\nservice-accounts/\nzone\n"),
        ("/project/", "numeric-project-id\nproject-id\n"),
        ("/project/project-id", "local-project"),
        ("/universe/universe-domain", "googleapis.com"),
        ("/instance/service-accounts/", f"default/\n{OUTER}/\n"),
        (DEFAULT, "aliases\nemail\nidentity\nscopes\ntoken\n"),
        (DEFAULT + "email", OUTER),
        (DEFAULT + "aliases", "default\n"),
        (f"/instance/service-accounts/{OUTER}/email", OUTER),
        (DEFAULT + "email?alt=json", f'"{OUTER}"'),
    ],
)
def test_it_tells_about_the_instance(metadata, path, content):
    answer = metadata(path)
    assert (answer.status_code, answer.text) == (200, content)
    assert answer.headers["Metadata-Flavor"] == "Google"
    assert answer.headers["Server"] == "Metadata Server for Serverless"


def test_the_region_is_the_project_s(metadata):
    number = metadata("/project/numeric-project-id").text
    assert metadata("/instance/region").text == f"projects/{number}/regions/us-central1"


def test_the_scopes_are_a_line_each(metadata):
    scopes = metadata(DEFAULT + "scopes").text.splitlines()
    assert "https://www.googleapis.com/auth/cloud-platform" in scopes


def test_the_account_comes_as_json_as_google_auth_wants_it(metadata):
    answer = metadata(DEFAULT + "?recursive=true")
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json()["email"] == OUTER
    assert answer.json()["aliases"] == ["default"] and answer.json()["scopes"]


@pytest.mark.parametrize("path", ["/", "/instance/", "/project/", "/instance/service-accounts/"])
def test_folders_come_as_json_and_hold_no_token(metadata, path):
    answer = metadata(path + "?recursive=true")
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json()
    assert "eyJ" not in answer.text


def test_java_finds_the_account(metadata):
    accounts = metadata("/instance/service-accounts/?recursive=true").json()
    assert accounts["default"]["email"] == OUTER
    assert accounts[OUTER]["aliases"] == ["default"]


def test_node_is_sent_to_the_folder(metadata):
    answer = metadata("/instance")
    assert answer.status_code == 301
    assert answer.headers["Location"].endswith("/computeMetadata/v1/instance/")
    assert answer.headers["Metadata-Flavor"] == "Google"


@pytest.mark.parametrize(
    "host", ["metadata.google.internal", "metadata", "169.254.169.254", "localhost"]
)
def test_it_answers_to_its_names(metadata, local, host):
    if host == "localhost":
        host += ":" + local.addresses()["outer"][1].rpartition(":")[2]
    assert metadata(DEFAULT + "email", {**FLAVOR, "Host": host}).status_code == 200


@pytest.mark.parametrize(
    "path, headers, status",
    [
        (DEFAULT + "email", {}, 403),
        (DEFAULT + "email", {"Metadata-Flavor": "Other"}, 403),
        (DEFAULT + "email", {**FLAVOR, "X-Forwarded-For": "203.0.113.7"}, 403),
        (DEFAULT + "email", {**FLAVOR, "Host": "rebound.example"}, 403),
        (DEFAULT + "identity", FLAVOR, 400),
        (DEFAULT + "identity?audience=", FLAVOR, 400),
        (DEFAULT + "identity?audience=" + "a" * 3000, FLAVOR, 400),
        (DEFAULT + "identity?audience=a&format=other", FLAVOR, 400),
        (DEFAULT + "token?scopes=", FLAVOR, 400),
        ("/instance/service-account/default/email", FLAVOR, 404),
        (DEFAULT + "email/more", FLAVOR, 404),
        ("/instance/service-accounts/../../project/project-id/x", FLAVOR, 404),
        (
            "/instance/service-accounts/closed-sa@local-project.iam.gserviceaccount.com/token",
            FLAVOR,
            404,
        ),
    ],
    ids=lambda given: str(given)[:60],
)
def test_it_refuses_what_google_s_refuses(metadata, path, headers, status):
    answer = metadata(path, headers)
    assert answer.status_code == status
    assert "eyJ" not in answer.text


def test_it_changes_nothing(metadata):
    assert metadata(DEFAULT + "email", method="POST").status_code == 405


def test_a_missing_audience_is_named(metadata):
    assert metadata(DEFAULT + "identity").text == "non-empty audience parameter required"


def test_it_keeps_a_token_for_each_audience(metadata):
    first, again = (metadata(DEFAULT + "identity?audience=a").text for _ in range(2))
    other = metadata(DEFAULT + "identity?audience=b").text
    assert first == again
    assert google.auth.jwt.decode(other, verify=False)["aud"] == "b"


def test_each_function_has_an_identity_of_its_own(metadata):
    assert metadata(DEFAULT + "email").text == OUTER
    assert metadata(DEFAULT + "email", of="closed").text == OUTER.replace("outer", "closed")


def test_an_access_token_lasts_for_an_hour(metadata):
    answer = metadata(DEFAULT + "token?scopes=https://www.googleapis.com/auth/datastore").json()
    assert answer["token_type"] == "Bearer" and 3500 < answer["expires_in"] < 3600


def test_the_root_page_needs_no_header(local):
    answer = requests.get(f"http://{local.addresses()['outer'][1]}/", timeout=20)
    assert answer.status_code == 200
    assert answer.headers["Metadata-Flavor"] == "Google"
