"""Compares what functions/NAME/openapi.yaml says with what the function answers."""

import contextlib

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from tool.testing import FUNCTIONS, ROOT, TRUST_MAP

schemathesis = pytest.importorskip("schemathesis", reason="left out: it is not installed")

OTHERS_FAULT = {502, 503, 504}  # no request can cause these by itself


def folder(name):
    return ROOT / "functions" / name.replace("-", "_")


DESCRIBED = [name for name in FUNCTIONS if (folder(name) / "openapi.yaml").exists()]
pytestmark = pytest.mark.skipif(not DESCRIBED, reason="left out: no function has an openapi.yaml")


def operations(name):
    """The described operations, except those that need a function or a file that was left out (x-needs)."""
    for found in schemathesis.openapi.from_path(folder(name) / "openapi.yaml").get_all_operations():
        operation = found.ok()
        needs = operation.definition.raw.get("x-needs")
        if not needs or needs in FUNCTIONS or (folder(name) / needs).exists():
            yield operation


def drawn(strategy, number):
    """Up to this many requests of this kind."""
    found = []

    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(case):
        found.append(case)

    with contextlib.suppress(Unsatisfiable):  # a request without content has no wrong form
        draw()
    return found


def examples(operation):
    """The examples in the description, and two bodies that no function takes: another type, and 64 KiB."""
    for strategy in operation.get_strategies_from_examples():
        yield from drawn(strategy, 1)
    if "requestBody" in operation.definition.raw:
        yield operation.Case(body={"text": "x" * 2**16}, media_type="application/json")
        other = operation.Case(body={}, media_type="application/json")
        other.headers["Content-Type"] = "text/plain"
        yield other


@pytest.fixture
def call(request, load):
    """Calls a function as deployed; one that nobody may call is loaded into this process."""

    def call(name):
        callers = TRUST_MAP[name] & {"you", *FUNCTIONS}
        if not callers:
            client = load(name)
            return lambda case: case.call(app=client.application)
        project = request.getfixturevalue("project")
        caller = callers.pop()
        audience = None if caller == "you" else project.url(name)
        headers = {"Authorization": f"Bearer {project.token(caller, audience)}"}
        session = requests.Session()
        request.addfinalizer(session.close)
        return lambda case: case.call(
            base_url=project.url(name), session=session, headers=headers, timeout=30
        )

    return call


@pytest.mark.parametrize("name", DESCRIBED or [""])
def test_a_function_answers_as_its_description_says(call, name):
    asked, seen = call(name), {}

    def check(operation, case):
        answer = asked(case)
        seen.setdefault(operation.label, set()).add(answer.status_code)
        assert answer.status_code < 500 or answer.status_code == 503, answer.text
        case.validate_response(answer)

    for operation in operations(name):
        for mode in schemathesis.GenerationMode:
            for case in drawn(operation.as_strategy(generation_mode=mode), 5):
                check(operation, case)
    for operation in [*operations(name)] * 2:  # twice, so that one can find what another made
        for case in examples(operation):
            check(operation, case)

    for operation in operations(name):
        # If it needs another function, the bindings decide which statuses occur.
        if not operation.definition.raw.get("x-needs"):
            described = {int(status) for status in operation.definition.raw["responses"]}
            assert described - OTHERS_FAULT <= seen[operation.label], operation.label
