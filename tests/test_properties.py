"""Whatever is sent as a credential is refused: the platform's promise, on user-profiles."""

import base64

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from names import USER_PROFILES

some = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
header_text = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=80)


@pytest.fixture(scope="module")
def session():
    with requests.Session() as session:
        yield session


@some
@given(
    credential=header_text, header=st.sampled_from(["Authorization", "X-Serverless-Authorization"])
)
def test_any_credential_is_refused(project, session, credential, header):
    url = project.url(USER_PROFILES)
    answer = session.options(url, headers={header: credential}, timeout=30)
    assert answer.status_code == (401 if credential else 403)


@some
@given(segments=st.lists(st.binary(max_size=40), min_size=3, max_size=3))
def test_any_three_segments_are_no_token(project, session, segments):
    token = b".".join(base64.urlsafe_b64encode(s).rstrip(b"=") for s in segments).decode()
    headers = {"Authorization": f"Bearer {token}"}
    assert (
        session.options(project.url(USER_PROFILES), headers=headers, timeout=30).status_code == 401
    )
