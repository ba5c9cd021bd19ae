"""Any made-up credential is refused, and never causes an error in the invoker check itself."""

import base64

import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

some = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
header_text = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=80)
SESSION = requests.Session()


@some
@given(
    credential=header_text, header=st.sampled_from(["Authorization", "X-Serverless-Authorization"])
)
def test_any_credential_is_refused(inner, credential, header):
    answer = SESSION.options(inner, headers={header: credential}, timeout=30)
    assert answer.status_code == (401 if credential else 403)


@some
@given(segments=st.lists(st.binary(max_size=40), min_size=3, max_size=3))
def test_any_three_segments_are_no_token(inner, segments):
    token = b".".join(base64.urlsafe_b64encode(s).rstrip(b"=") for s in segments).decode()
    answer = SESSION.options(inner, headers={"Authorization": f"Bearer {token}"}, timeout=30)
    assert answer.status_code == 401
