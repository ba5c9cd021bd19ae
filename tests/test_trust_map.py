"""Tests each cell of the trust map with a call of the deployed functions. It needs only the map."""

import pytest

from tool.testing import FUNCTIONS, ROOT, TRUST_MAP, is_let_in

CALLERS = (None, "you", *FUNCTIONS)


def is_refused_by_the_platform(answer):
    """Whether the platform itself refused, in HTML; any other answer means that the call got through."""
    html = answer.headers.get("Content-Type", "").startswith("text/html")
    return html and answer.status_code in (401, 403) and "Your client does not have" in answer.text


@pytest.mark.deployed
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("caller", CALLERS)
def test_each_call_is_answered_as_the_map_says(project, caller, function):
    if not project.target and caller == "you" and "you" not in TRUST_MAP[function]:
        pytest.skip("in the cloud, you may be an owner, who may call everything")
    answer = project.request("OPTIONS", function, caller=caller)
    assert is_refused_by_the_platform(answer) != is_let_in(caller, function)


@pytest.mark.deployed
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_token_that_is_none_is_refused(project, function):
    if "anonymous" in TRUST_MAP[function]:
        pytest.skip("everyone may call it, whatever the token")
    headers = {"Authorization": "Bearer no.token.atall"}
    answer = project.request("OPTIONS", function, caller=None, headers=headers)
    assert answer.status_code == 401 and is_refused_by_the_platform(answer)


def test_each_function_has_a_folder_and_each_folder_a_line():
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/main.py")}
    assert folders == {name.replace("-", "_") for name in FUNCTIONS}
