"""A team: two environments in one project and a third in another, and a colleague's fresh copy."""

import json
import re

import pytest

from local_toy import Local
from tool.testing import run, succeeded

# Name: project, prefix, memory. Each has its own secret, and its own service account for a schedule.
ENVIRONMENTS = {
    "dev": ("team-test", "dev-", "512Mi"),
    "staging": ("team-test", "staging-", "1Gi"),
    "production": ("team-main", "", "2Gi"),
}
FILE = "PROJECT={}\nPREFIX={}\nMEMORY={}\nKEY={name}-key\nCLOCK={name}-clock\n"
HERE = "MEMORY=256Mi\nKEY=a-key\nCLOCK=a-clock\nsecret a-key=not a real key\n"
TRUST_MAP = """\
front    you    -
back     front  firestore
closed   serviceAccount:$CLOCK@$PROJECT.iam.gserviceaccount.com  -
"""


@pytest.fixture
def team(toy, tmp_path):
    """A colleague's clone of a team's app, with her own home folder."""
    (toy / "trust-map").write_text(TRUST_MAP)
    (toy / "functions/front/flags").write_text("--memory=$MEMORY\n--set-secrets=KEY=$KEY:latest\n")
    (toy / "environments").mkdir()
    (toy / "environments/local").write_text(HERE)
    for name, settings in ENVIRONMENTS.items():
        (toy / "environments" / name).write_text(FILE.format(*settings, name=name))
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "The app"]):
        succeeded(run("git", *identity, *words, cwd=toy))
    succeeded(run("git", "clone", "-q", str(toy), str(tmp_path / "fresh copy")))
    team = Local(tmp_path / "fresh copy")
    team.env |= {"HOME": str(tmp_path / "home")}
    (tmp_path / "home").mkdir()
    try:
        yield team
    finally:
        for words in ([], *([f"--environment={name}"] for name in ENVIRONMENTS)):
            team.deploy_sh("destroy", *words)


def deployed(team, name, *environment):
    """The secret of this function in that environment, and who may call closed there."""
    exported = succeeded(team.deploy_sh("env", *environment)).stdout
    lines = "\n".join(
        f'gcloud run services {verb} --region="$REGION" --format=json; echo ,'
        for verb in (f"describe {name}", f"get-iam-policy {name.replace('front', 'closed')}")
    )
    shell = succeeded(run("bash", "-c", f"{exported}\necho [\n{lines}\necho null ]", env=team.env))
    service, policy, _ = json.loads(shell.stdout)
    [container] = service["spec"]["template"]["spec"]["containers"]
    [key] = [one for one in container["env"] if one["name"] == "KEY"]
    return key["valueFrom"]["secretKeyRef"]["name"], policy["bindings"][0]["members"]


def test_a_fresh_copy_deploys_with_no_step_by_hand(team):
    succeeded(team.deploy_sh())
    clock = "serviceAccount:a-clock@local-project.iam.gserviceaccount.com"
    assert deployed(team, "front") == ("a-key", [clock])


def test_three_environments_live_side_by_side_and_go_alone(team):
    (team.app / ".secrets").mkdir()
    for name, (project, prefix, memory) in ENVIRONMENTS.items():
        (team.app / f".secrets/{name}-key").write_text(f"the key of {name}")
        dry = succeeded(team.deploy_sh(f"--environment={name}", "--dry-run")).stdout
        assert re.search(rf"gcloud run deploy {prefix}front --project={project} .*--memory={memory} ", dry)
        succeeded(team.deploy_sh(f"--environment={name}"))
    for name, (project, prefix, _) in ENVIRONMENTS.items():
        clock = f"serviceAccount:{name}-clock@{project}.iam.gserviceaccount.com"
        assert deployed(team, f"{prefix}front", f"--environment={name}") == (f"{name}-key", [clock])
    succeeded(team.deploy_sh("destroy", "--environment=dev"))
    for name in ("staging", "production"):
        succeeded(team.deploy_sh("verify", f"--environment={name}"))
    file = team.app / "environments/production"
    file.write_text(file.read_text().replace("production-clock", "dev-clock"))
    opened = team.deploy_sh("diff", "HEAD", "--environment=production")
    assert opened.returncode == 1
    assert opened.stdout.startswith("opened: serviceAccount:dev-clock@$PROJECT.iam")
