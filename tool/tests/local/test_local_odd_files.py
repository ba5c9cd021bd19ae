"""Files of the app and of the state that are not text, a folder, or a broken link: they are skipped or named."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tool.testing import ROOT, run, succeeded
from toys import Local, call

SWAP = b"b0VIM 9.1\0\0\0\0\x10\0\0\xff\xfe\xe9\x80" + bytes(range(256)) * 8


def no_text(file):
    file.write_bytes(SWAP)


def a_folder(file):
    file.mkdir()


def a_link_to_nothing(file):
    file.symlink_to("nowhere")


def a_link_to_itself(file):
    file.symlink_to(file.name)


ODD = (no_text, a_folder, a_link_to_nothing, a_link_to_itself)


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    """A project whose function a group may call."""
    local = Local(tmp_path_factory.mktemp("odd"))
    local.groups = local.folder / "groups"
    local.groups.mkdir()
    local.env["LOCAL_GROUPS"] = str(local.groups)
    try:
        local.up("shared")
        succeeded(local.deploy("shared"))
        local.let_in("group:all@example.com", "shared")
        (local.groups / "all@example.com").write_bytes(b"\xef\xbb\xbfyou@example.com\r\n")
        yield local
    finally:
        local.end()


@pytest.fixture
def works(grouped):
    """Checks that calls are answered as before and every command works. Returns what `up` says."""

    def works():
        url, you = grouped.url("shared"), grouped.gcloud("auth print-identity-token")
        assert [call(url).status_code, call(url, you).status_code] == [403, 200]
        up = grouped.tool("up", "local-project", "us-central1", "shared")
        results = [up, *(grouped.gcloud(line, check=False) for line in LINES)]
        assert all("Traceback" not in result.stderr for result in results)
        assert all(result.returncode == 0 for result in results), results
        return up.stdout

    return works


LINES = (
    "run services list", "run services describe shared REGION", "run revisions list",
    "iam service-accounts list", "secrets list", "run services logs read shared", "logging read",
)  # fmt: skip


def removed(file):
    shutil.rmtree(file) if file.is_dir() and not file.is_symlink() else file.unlink(missing_ok=True)


@pytest.mark.parametrize("make", [*ODD, os.mkfifo])
def test_an_odd_file_of_a_group_shuts_nobody_out(grouped, works, make):
    names = (".all@example.com.swp", "other@example.com", "4913@x")
    with there(make, (grouped.groups / name for name in names)) as files:
        said = works()
    assert [f"{file} names nobody" in said for file in files] == [False, True, True]


KINDS = ("accounts", "services", "revisions", "policies", "ids", "roles")
ODD_STATE = (
    *(f"{kind}/{name}.json" for kind in KINDS for name in ("odd", ".odd.swp", "odd name")),
    "config.json", "faults.json", "propagation.json", "after_change.json", "run/odd", "logs/odd.log",
)  # fmt: skip


@pytest.mark.parametrize("make", ODD)
def test_an_odd_file_of_the_state_breaks_nothing(grouped, works, make):
    with there(make, (grouped.state / name for name in ODD_STATE)):
        works()
    (grouped.state / "services/odd.json").unlink(missing_ok=True)


@pytest.mark.parametrize("content", [[], "x", 3, None, {}, {"bindings": 3}, {"kind": []}])
def test_json_of_another_kind_breaks_nothing(grouped, works, content):
    names = ("accounts/odd", "services/shared2", "revisions/odd", "ids/1", "config", "faults")
    files = [grouped.state / f"{name}.json" for name in names]
    with there(lambda file: file.write_text(json.dumps(content)), files):
        works()


@contextlib.contextmanager
def there(make, files):
    """Makes the files with `make`, and removes them at the end of the block."""
    files = list(files)
    try:
        for file in files:
            file.parent.mkdir(exist_ok=True)
            make(file)
        yield files
    finally:
        for file in files:
            removed(file)


@pytest.mark.parametrize("make", ODD)
def test_an_odd_secret_is_named_where_it_is_used_and_not_listed(grouped, works, make):
    grouped.secrets.mkdir(exist_ok=True)
    (grouped.secrets / ".key.swp").write_bytes(SWAP)
    file = grouped.secrets / "a-key"
    make(file)
    try:
        works()
        assert grouped.gcloud("secrets list --format='value(name.basename())'") in ("", "a-key")
        refused = grouped.deploy("shared", "def echo(r): pass", "--set-secrets=KEY=a-key:latest")
        assert refused.returncode == 1 and "Traceback" not in refused.stderr
        assert "a-key" in refused.stderr
    finally:
        removed(file)
    works()


# ---- values of secrets


@pytest.mark.parametrize(
    "value",
    [b"plain", b"ends in one\n", b"\n", b"two\r\n\n", b"", bytes(range(1, 256)), "sö€".encode()],
    ids=repr,
)
def test_a_secret_arrives_byte_for_byte(grouped, value):
    grouped.secrets.mkdir(exist_ok=True)
    (grouped.secrets / "bytes").write_bytes(value)
    binding = f"--member={grouped.member('shared')} --role=roles/secretmanager.secretAccessor"
    grouped.gcloud(f"secrets add-iam-policy-binding bytes {binding}")
    code = "import os\ndef echo(r): return os.environb[b'KEY'].hex()\n"
    succeeded(grouped.deploy("shared", code, "--set-secrets=KEY=bytes:latest"))
    you = grouped.gcloud("auth print-identity-token")
    assert bytes.fromhex(call(grouped.url("shared"), you).text) == value


def test_a_zero_byte_in_a_secret_is_named(grouped):
    grouped.secrets.mkdir(exist_ok=True)
    (grouped.secrets / "zero").write_bytes(b"a\0b")
    binding = f"--member={grouped.member('shared')} --role=roles/secretmanager.secretAccessor"
    grouped.gcloud(f"secrets add-iam-policy-binding zero {binding}")
    refused = grouped.deploy("shared", "def echo(r): pass", "--set-secrets=KEY=zero:latest")
    assert refused.returncode == 1 and "the secret zero contains a zero byte" in refused.stderr


# ---- logs


def test_a_log_line_that_cannot_be_printed_is_printed_with_replacements(grouped):
    log = grouped.state / "logs" / "shared.log"
    before = log.read_bytes()
    line = '{"message": "half \\ud83d one, \\u20ac, end", "time": "2030-01-01T10:00:00Z"}\n'
    log.write_bytes(before + line.encode() + b"raw \xff\xfe\n")
    try:
        for locale in ("C", "C.UTF-8", "en_US.ISO-8859-1", "tr_TR.UTF-8"):
            grouped.env["LC_ALL"] = locale
            for command in ("run services logs read shared --limit=2", "logging read --limit=1"):
                said = grouped.gcloud(command)
                assert "half " in said and " one, " in said and ", end" in said
    finally:
        del grouped.env["LC_ALL"]
        log.write_bytes(before)


def test_what_no_encoding_can_print_is_replaced():
    """Also in Latin-1. This machine may not have such a locale, so the encoding of the output is set directly."""
    code = (
        "import io, runpy, sys\n"
        "sys.stdout = io.TextIOWrapper(sys.stdout.buffer, 'latin-1')\n"
        "import tool.local.gcloud.command as c\n"
        "c.main = lambda *_: print('caf\\xe9 \\u20ac \\ud800')\n"
        f"sys.argv = ['x', 'gcloud']; runpy.run_path('{ROOT}/tool/local/__main__.py', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60)
    assert done.stdout == b"caf\xe9 ? ?\n", done.stderr


# ---- logging read: a filter is obeyed, or refused

LOGGED = """\
{"message": "old", "time": "2030-01-01T10:00:00Z", "severity": "ERROR", "logging.googleapis.com/trace": "projects/p/traces/a1"}
{"message": "new", "time": "2030-01-01T11:00:00.5+00:00", "severity": "WARNING", "logging.googleapis.com/trace": "projects/p/traces/a1"}
{"message": "none", "time": "2030-01-01T12:00:00Z"}
{"message": "timeless 1", "time": "yesterday", "severity": "ODD"}
no entry
"""


@pytest.fixture(scope="module")
def logged(grouped):
    file = grouped.state / "logs" / "shared.log"
    before = file.read_bytes()
    file.write_text(LOGGED)
    yield grouped
    file.write_bytes(before)


@pytest.mark.parametrize(
    "asked, found",
    [
        ('trace="projects/p/traces/a1"', "new old"),
        ('trace="projects/p/traces/other"', ""),
        ("trace:a1 AND severity=error", "old"),
        ("severity>=WARNING", "new old"),
        ("severity>WARNING", "old"),
        ("severity!=DEFAULT severity<ERROR", "new"),
        ('timestamp>="2030-01-01T10:30:00Z"', "none new"),
        ('timestamp<"2030-01-01T11:00:00Z" AND timestamp>"2020-01-01"', "old"),
        ('resource.labels.service_name="shared" AND textPayload:"ne"', "none new"),
        ("resource.labels.service_name=other", ""),
        ('resource.type="cloud_run_revision" AND textPayload=~"^n.w$"', "new"),
        ("textPayload=~^[a-z]+$", "none new old"),
        ("httpRequest.status<600 textPayload:e", ""),
        ("timestamp:2030 textPayload=~e", "none new"),
        ('timestamp!="2030-01-01T12:00:00Z" textPayload=~e', "new"),
        ("severity:warn", "new"),
        ("severity=DEFAULT textPayload:timeless", "timeless 1"),
    ],
)
def test_a_filter_of_the_log_is_obeyed(logged, asked, found):
    command = ("gcloud", "logging", "read", asked, "--format=value(textPayload)")
    assert succeeded(run(*command, env=logged.env)).stdout.split() == found.split()


@pytest.mark.parametrize(
    "asked",
    [
        "NOT severity=ERROR", "severity=ERROR OR severity=INFO", "(severity=ERROR)", "broken", "severity=LOUD",
        'jsonPayload.message="x"', "timestamp>=yesterday", 'labels."x"=1', "trace>1", "AND trace=1", 'trace="a',
        "httpRequest.status=all", "httpRequest.userAgent=curl", "severity!=LOUD", "timestamp!=yesterday",
        "httpRequest.status!=all", 'textPayload=~"("',
    ],
)  # fmt: skip
def test_what_a_filter_asks_beyond_that_is_refused(logged, asked):
    refused = run("gcloud", "logging", "read", asked, env=logged.env)
    assert refused.returncode == 1
    assert "does not know this in a filter: " in refused.stderr and "Traceback" not in refused.stderr


def test_the_log_can_be_read_from_its_begin_and_of_the_last_time_only(logged):
    read = "logging read textPayload=~^[a-z]+$ --format='value(textPayload)'"
    assert logged.gcloud(f"{read} --order=asc --limit=1") == "old"
    assert "freshness" in logged.refused(f"{read} --freshness=soon")
    assert logged.gcloud(f"{read} --freshness=1h").split() == ["none", "new", "old"]


def test_a_refused_call_is_found_by_its_trace(grouped):
    trace = "0af7651916cd43dd8448eb211c80319c"
    assert call(grouped.url("shared"), headers={"X-Cloud-Trace-Context": trace}).status_code == 403
    asked = f'trace="projects/local-project/traces/{trace}"'
    found = json.loads(grouped.gcloud(f"logging read '{asked}' --format=json"))
    assert "Empty Authorization header value" in found[0]["textPayload"]
    asked += ' AND logName="projects/local-project/logs/run.googleapis.com%2Frequests"'
    asked += ' AND httpRequest.status>=400 AND severity=WARNING'
    assert json.loads(grouped.gcloud(f"logging read '{asked}' --format=json")) == [found[1]]
    request = found[1]["httpRequest"]
    assert re.fullmatch(r"0\.\d{4}s", request.pop("latency"))
    url = f"{grouped.url('shared')}/"
    assert request == {"requestMethod": "GET", "requestUrl": url, "status": 403}
