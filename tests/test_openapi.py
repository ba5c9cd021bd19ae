"""What functions/NAME/openapi.yaml says of a function, against what the function answers."""

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings

from local.testing import FUNCTIONS, ROOT, TRUST_MAP

schemathesis = pytest.importorskip("schemathesis", reason="left out: it is not installed")

some = settings(
    max_examples=5,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
DESCRIBED = [
    name
    for name in FUNCTIONS
    if (ROOT / "functions" / name.replace("-", "_") / "openapi.yaml").exists()
]


@pytest.fixture
def call(request, load):
    """Calls a function: as deployed, or, where nobody may, loaded by itself."""

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


@pytest.mark.skipif(not DESCRIBED, reason="left out: no function has an openapi.yaml")
@pytest.mark.parametrize("name", DESCRIBED or [""])
def test_a_function_answers_as_its_description_says(call, name):
    path = ROOT / "functions" / name.replace("-", "_") / "openapi.yaml"
    asked, statuses = call(name), set()
    for found in schemathesis.openapi.from_path(path).get_all_operations():
        operation = found.ok()
        needs = operation.definition.raw.get("x-needs")
        if needs and needs not in FUNCTIONS:
            continue
        for mode in schemathesis.GenerationMode:

            @some
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case):
                answer = asked(case)
                statuses.add(answer.status_code)
                assert answer.status_code < 500 or answer.status_code == 503, answer.text
                case.validate_response(answer)

            check()
    assert statuses & {200, 201}, statuses  # or nothing of it was right
