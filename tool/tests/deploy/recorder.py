"""Replaces gcloud and curl on the fake Google Cloud of recorded_cloud.py.

It records each command and answers like the real one, so that deploy.sh continues. In the folder
$RECORD: commands (what was called), answers/ (what a test wants as the answer), faults/ (what fails
once), services/, accounts/, policies/ and others (what was made).
"""

import json
import os
import pathlib
import sys

RECORD = pathlib.Path(os.environ["RECORD"])
NUMBER = "123456789012"
INVOKE = {"roles/run.invoker"}


def read(name, default=None):
    try:
        return json.loads((RECORD / name).read_text())
    except FileNotFoundError:
        return default


def write(name, content):
    file = RECORD / name
    file.parent.mkdir(exist_ok=True)
    new = file.with_name(f"{file.name}.{os.getpid()}")
    new.write_text(json.dumps(content))
    new.replace(file)


def listed(folder):
    return [json.loads(file.read_text()) for file in sorted((RECORD / folder).glob("*"))]


def note(words):
    with open(RECORD / "commands", "a") as file:  # in one write, because several run at the same time
        file.write(json.dumps(words) + "\n")


def scripted(line):
    """The answer that a test has set for this command, if any."""
    for file in sorted((RECORD / "answers").glob("*")):
        answer = json.loads(file.read_text())
        if answer["words"] in line:
            return answer
    return None


def fault(line):
    """The error that a test has set for this command, if any. `lost`: the change is made anyway."""
    for file in sorted((RECORD / "faults").glob("*")):
        planted = json.loads(file.read_text())
        if planted["words"] in line:
            try:
                os.rename(file, f"{RECORD}/gone.{file.name}")  # only one of several succeeds
            except FileNotFoundError:
                continue
            return planted
    return None


def option(words, name):
    found = [word.partition("=")[2] for word in words if word.startswith(f"{name}=")]
    return found[0] if found else ""


def bindings_with(bindings, member, role, condition):
    more = {"condition": condition} if condition else {}
    return [*bindings, {"role": role, "members": [member], **more}]


# What stays in a service until a flag changes it: flag, annotation, value (None: the flag's, "": none).
STAYS = (
    ("--vpc-connector", "run.googleapis.com/vpc-access-connector", None),
    ("--clear-vpc-connector", "run.googleapis.com/vpc-access-connector", ""),
    ("--no-cpu-throttling", "run.googleapis.com/cpu-throttling", "false"),
    ("--cpu-throttling", "run.googleapis.com/cpu-throttling", ""),
    ("--execution-environment", "run.googleapis.com/execution-environment", None),
    ("--min-instances", "autoscaling.knative.dev/minScale", None),
)


def annotations_after(words, before):
    after = dict(before)
    for flag, annotation, value in STAYS:
        if any(word == flag or word.startswith(f"{flag}=") for word in words):
            after[annotation] = option(words, flag) if value is None else value
    return {name: value for name, value in after.items() if value not in ("", "0")}


def variables_after(words, before):
    """The variables that hold secrets, after this deploy."""
    if "--clear-secrets" in words:
        return []
    given = option(words, "--set-secrets")
    if not given:
        return before
    pairs = (pair.split("=") for pair in given.split(","))
    refs = ((name, *ref.split(":")) for name, ref in pairs)
    return [
        {"name": name, "valueFrom": {"secretKeyRef": {"key": version, "name": secret}}}
        for name, secret, version in refs
    ]


def deployed(words):
    """A service as gcloud run services describe shows it."""
    name, region = words[2], option(words, "--region")
    before = read(f"services/{name}", {"spec": {"template": {"metadata": {}, "spec": {}}}})["spec"]["template"]
    kept = before["metadata"].get("annotations", {})
    [*_, secrets] = [c["env"] for c in before["spec"].get("containers", [{"env": []}])]
    revision = f"{name}-{option(words, '--revision-suffix')}"
    url = f"https://{name}-{NUMBER}.{region}.run.app"
    return {
        "metadata": {
            "name": name,
            "namespace": NUMBER,
            "labels": {
                "cloud.googleapis.com/location": region,
                **dict(label.split("=") for label in option(words, "--labels").split(",")),
            },
            "annotations": {
                "run.googleapis.com/ingress": option(words, "--ingress"),
                "run.googleapis.com/urls": json.dumps([url]),
            },
        },
        "spec": {
            "template": {
                "metadata": {"name": revision, "annotations": annotations_after(words, kept)},
                "spec": {
                    "serviceAccountName": option(words, "--service-account"),
                    "containers": [{"env": variables_after(words, secrets)}],
                },
            }
        },
        "status": {
            "latestCreatedRevisionName": revision,
            "latestReadyRevisionName": revision,
            "conditions": [{"type": "Ready", "status": "True"}],
            "traffic": [{"latestRevision": True, "percent": 100, "revisionName": revision}],
            "url": url,
        },
    }


def deploy(words):
    service = deployed(words)
    template, name = service["spec"]["template"], words[2]
    revision = {
        "metadata": {**template["metadata"], "labels": {"serving.knative.dev/service": name}},
        "spec": template["spec"],
    }
    write(f"revisions/{template['metadata']['name']}", revision)
    write(f"services/{name}", service)


def change_secret(words, add):
    secret, member, role = words[2], option(words, "--member"), option(words, "--role")
    bindings = read(f"secrets/{secret}", {}).get("bindings", [])
    kept = [b for b in bindings if (b["members"], b["role"]) != ([member], role)]
    write(f"secrets/{secret}", {"bindings": bindings_with(kept, member, role, None) if add else kept})


def condition_of(words):
    text = option(words, "--condition")
    if text in ("", "None"):
        return None
    title, _, expression = text.removeprefix("title=").partition(",expression=")
    return {"title": title, "expression": expression}


def updated(words):
    """run services update and update-traffic, as far as deploy.sh uses them."""
    service = existing(f"services/{words[3]}")
    if "--invoker-iam-check" in words:
        service["metadata"]["annotations"].pop("run.googleapis.com/invoker-iam-disabled", None)
    if "--to-latest" in words:
        service["status"]["traffic"] = [{"latestRevision": True, "percent": 100}]
    write(f"services/{words[3]}", service)


class Missing(Exception):
    pass


def existing(name):
    found = read(name)
    if found is None:
        raise Missing
    return found


def account(words):
    name = words[3]
    email = f"{name}@p-1.iam.gserviceaccount.com"
    write(f"accounts/{email}", {"email": email, "description": option(words, "--description")})


def enable(email):
    account = read(f"accounts/{email}")
    account.pop("disabled")
    write(f"accounts/{email}", account)


def change_project(words, add):
    member, role, bindings = option(words, "--member"), option(words, "--role"), read("granted", [])
    if add:
        bindings = bindings_with(bindings, member, role, condition_of(words))
    else:
        kept = [b for b in bindings if (b["members"][0].lower(), b["role"]) != (member.lower(), role)]
        if kept == bindings:
            print("ERROR: Policy binding with the specified member, role, and condition not found!", file=sys.stderr)
            sys.exit(1)
        bindings = kept
    write("granted", bindings)


def token(words):
    account = option(words, "--impersonate-service-account")
    return f"the token of {f'serviceAccount:{account}' if account else 'user:dev@example.com'}"


def answer_to(words):
    """The answer: text, or something to print as JSON. None: prints nothing."""
    database = f"databases/{option(words, '--database')}"
    known = {
        "version": lambda: {"Google Cloud SDK": "528.0.0"},
        "auth list": lambda: [{"account": "dev@example.com", "status": "ACTIVE"}],
        "auth print-identity-token": lambda: token(words),
        "config list": lambda: {},
        "billing projects describe": lambda: {"billingEnabled": True},
        "projects describe": lambda: {"projectId": "p-1", "projectNumber": NUMBER},
        "projects get-ancestors-iam-policy": lambda: [
            {"id": "p-1", "type": "project", "policy": {"bindings": read("granted", [])}}
        ],
        "projects add-iam-policy-binding": lambda: change_project(words, add=True),
        "projects remove-iam-policy-binding": lambda: change_project(words, add=False),
        "services list": lambda: [{"config": {"name": name}} for name in read("enabled", [])],
        "services enable": lambda: write(
            "enabled", [*read("enabled", []), *(w for w in words if w.endswith("googleapis.com"))]
        ),
        "firestore databases create": lambda: write(database, {"type": "FIRESTORE_NATIVE"}),
        "firestore databases delete": lambda: (RECORD / database).unlink(),
        "firestore databases describe": lambda: existing(database),
        "iam service-accounts create": lambda: account(words),
        "iam service-accounts list": lambda: listed("accounts"),
        "iam service-accounts describe": lambda: existing(f"accounts/{words[3]}"),
        "iam service-accounts delete": lambda: (RECORD / "accounts" / words[3]).unlink(),
        "run deploy": lambda: deploy(words),
        "run jobs list": list,
        "run revisions list": lambda: listed("revisions"),
        "run services list": lambda: listed("services"),
        "run services describe": lambda: existing(f"services/{words[3]}"),
        "run services delete": lambda: (RECORD / "services" / words[3]).unlink(),
        "run services set-iam-policy": lambda: write(
            f"policies/{words[3]}", json.loads(pathlib.Path(words[4]).read_text())
        ),
        "run services get-iam-policy": lambda: read(f"policies/{words[3]}", {}),
        "run services update": lambda: updated(words),
        "run services logs": lambda: "",
        "builds log": lambda: "",
        "iam roles describe": lambda: {"name": words[3]},
        "iam list-grantable-roles": lambda: [{"name": option(words, "--filter").partition("=")[2]}],
        "secrets versions list": lambda: read(f"versions/{words[3]}", [{"name": "1"}]),
        "secrets list": lambda: [
            {"name": f"projects/1/secrets/{file.name}"} for file in (RECORD / "secrets").glob("*")
        ],
        "secrets get-iam-policy": lambda: read(f"secrets/{words[2]}", {}),
        "secrets add-iam-policy-binding": lambda: change_secret(words, add=True),
        "secrets remove-iam-policy-binding": lambda: change_secret(words, add=False),
        "iam service-accounts enable": lambda: enable(words[3]),
        "builds list": list,
    }
    line = " ".join(words)
    for beginning, reply in known.items():
        if line.startswith(beginning):
            return reply()
    return {}


def gcloud(words):
    note(["gcloud", *words])
    line = " ".join(words)
    if planned := scripted(line):
        print(planned["stderr"], end="", file=sys.stderr)
        print(planned["stdout"], end="")
        return planned["status"]
    planted = fault(line)
    if planted and not planted["lost"]:
        print(planted["error"], file=sys.stderr)
        return 1
    try:
        found = answer_to(words)
    except Missing:
        print(f"ERROR: (gcloud.{'.'.join(words[:3])}) NOT_FOUND: it does not exist", file=sys.stderr)
        return 1
    if planted:
        print(planted["error"], file=sys.stderr)
        return 1
    if isinstance(found, str):
        print(found)
    elif found is not None and "--format=json" in words:
        print(json.dumps(found))
    return 0


def curl():
    """Answers each call according to the policy of its function."""
    caller = "allUsers"
    for line in sys.stdin:
        name, _, text = line.strip().partition(" = ")
        text = text.strip('"')
        if name == "header":
            caller = text.partition("the token of ")[2]
        elif name == "url":
            function = text.removeprefix("https://").partition(f"-{NUMBER}")[0]
        elif name == "output":
            policy = read(f"policies/{function}", {}).get("bindings", [])
            members = {m.lower() for b in policy if b["role"] in INVOKE for m in b["members"]}
            if members & {"allusers", caller.lower()}:
                print("200 application/json")
            else:
                pathlib.Path(text).write_text("Your client does not have permission")
                print("403 text/html")
    return 0


if __name__ == "__main__":
    if pathlib.Path(sys.argv[1]).name == "curl":
        sys.exit(curl())
    sys.exit(gcloud(sys.argv[2:]))
