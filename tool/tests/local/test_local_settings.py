"""A person's settings of pip and uv: the tool decides where packages go, the person where they come from."""

import http.server
import os
import shutil
import sys
import threading
import zipfile

import pytest

from tool.python import settings
from tool.testing import ROOT, run, succeeded
from toys import Local

GO = {
    "USER": "1", "TARGET": "{}/target", "PREFIX": "{}/prefix", "ROOT": "{}/root", "REQUIRE_VIRTUALENV": "1",
    "PYTHON": "/nothing", "DRY_RUN": "1", "NO_DEPS": "1",
}  # fmt: skip
PIP_CONF = """\
[global]
user = true
require-virtualenv = true
require-hashes = true
dry-run = true
constraint = /nothing.txt
no-binary = :all:
prefix = {0}/prefix
python = /nothing
[install]
target = {0}/target
"""
UV_TOML = """\
[pip]
target = "{0}/target"
python = "/nothing"
system = true
require-hashes = true
"""
UV = {
    "UV_PYTHON": "/nothing", "UV_SYSTEM_PYTHON": "1", "UV_PROJECT_ENVIRONMENT": "{}/project", "UV_TARGET": "{}/target",
    "UV_MANAGED_PYTHON": "1", "UV_REQUIRE_HASHES": "1", "UV_PROJECT": "/nothing", "UV_WORKING_DIR": "/",
}  # fmt: skip


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder with the worst settings. Only the cache is the real one."""
    home, cache = tmp_path / "home", succeeded(run(str(ROOT / ".venv/bin/uv"), "cache", "dir")).stdout.strip()
    for name, content in (("pip/pip.conf", PIP_CONF), ("uv/uv.toml", UV_TOML)):
        (home / ".config" / name).parent.mkdir(parents=True)
        (home / ".config" / name).write_text(content.format(home))
    for name, value in {**{f"PIP_{name}": value for name, value in GO.items()}, **UV}.items():
        monkeypatch.setenv(name, value.format(home))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("UV_CACHE_DIR", cache)
    return home


def test_packages_go_into_the_environments_that_are_made_for_them(home, tmp_path):
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "tool", clone / "tool")
    succeeded(run(str(clone / "tool/python/venv")))
    assert (clone / ".venv/bin/uv").exists() and list((clone / ".venv/lib").glob("*/site-packages/aiohttp"))
    local = Local(tmp_path / "project")
    local.folder.mkdir()
    try:
        local.up("fun")
        code = "import iniconfig\ndef echo(r): return 'x'\n"
        unlocked = "functions-framework\niniconfig\n"
        succeeded(local.deploy("fun", code, requirements=unlocked))
    finally:
        local.end()
    assert not {path.name for path in home.iterdir()} & {"target", "prefix", "root", "project", ".local"}


@pytest.fixture
def index():
    """The address of a package index without packages, and the requests that it gets."""
    asked = []

    class Index(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()


@pytest.mark.parametrize("how", ["file", "variable"])
def test_the_index_of_pip_and_of_uv_is_asked(home, tmp_path, monkeypatch, index, how):
    address, asked = index
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "pip-cache"))
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"):
        monkeypatch.delenv(name, raising=False)
    if how == "file":
        with open(home / ".config/pip/pip.conf", "a") as file:
            file.write(f"index-url = {address}/of-pip\nfind-links =\nretries = 0\n")
        toml = (home / ".config/uv/uv.toml").read_text()
        (home / ".config/uv/uv.toml").write_text(f'{toml}index-url = "{address}/of-uv"\n')
    else:
        monkeypatch.setenv("PIP_INDEX_URL", f"{address}/of-pip")
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"{address}/of-uv")
    uv = succeeded(run(str(ROOT / ".venv/bin/python"), "-c", OF_UV.format(root=str(ROOT), cwd=str(tmp_path)), cwd=tmp_path))
    assert "/of-uv/some-package/" in asked, uv.stderr
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "tool", clone / "tool")
    run(str(clone / "tool/python/venv"))
    assert any(path.startswith("/of-pip/uv/") for path in asked)


@pytest.fixture
def asked_by_uv(home, tmp_path, monkeypatch):
    """Makes uv look for a package, with an empty cache and only the test's settings of where packages come from."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "")
    for name in [name for name in os.environ if name.startswith("PIP_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)

    def asked_by_uv(package):
        script = OF_UV.format(root=str(ROOT), cwd=str(tmp_path)).replace("some-package", package)
        return succeeded(run(sys.executable, "-c", script, cwd=tmp_path)).stdout

    return asked_by_uv


@pytest.mark.parametrize("how", ["user", "older", "named", "variable", "extra", "command", "proxy"])
def test_uv_asks_the_index_of_pip(home, asked_by_uv, monkeypatch, index, how):
    address, asked = index
    url = f"index-url = {address}/of-pip"
    files = {
        "user": (".config/pip/pip.conf", f"[global]\n{url}\n"),
        "older": (".pip/pip.conf", f"[global]\n{url}\n"),
        "named": ("of-mine.conf", f"[global]\n{url}\n"),
        "variable": (".config/pip/pip.conf", "[global]\nindex-url = http://127.0.0.1:1/no\n"),
        "extra": (".config/pip/pip.conf", f"[global]\nindex_url = {address}/no\nextra-{url}\n"),
        "command": (".config/pip/pip.conf", f"[install]\n{url}\n[global]\nindex-url = http://127.0.0.1:1/no\n"),
        "proxy": (".config/pip/pip.conf", f"[global]\nindex-url = http://nowhere.invalid/of-pip\nproxy = {address}\n"),
    }
    (home / ".config/pip/pip.conf").unlink()
    (home / files[how][0]).parent.mkdir(exist_ok=True)
    (home / files[how][0]).write_text(files[how][1])
    if how == "named":
        monkeypatch.setenv("PIP_CONFIG_FILE", str(home / files[how][0]))
    if how == "variable":
        monkeypatch.setenv("PIP_INDEX_URL", f"{address}/of-pip")
    asked_by_uv("some-package")
    expected = "http://nowhere.invalid/of-pip" if how == "proxy" else "/of-pip"
    assert f"{expected}/some-package/" in asked


def test_uv_finds_what_is_in_pip_s_folder_of_packages(home, asked_by_uv, monkeypatch):
    wheels = home / "my wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "tiny_package-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_package-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-package\nVersion: 1.0\n")
        wheel.writestr("tiny_package-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny_package-1.0.dist-info/RECORD", "")
    (home / ".config/pip/pip.conf").write_text("[global]\nno-index = true\n")
    assert "not found" in asked_by_uv("tiny-package")
    monkeypatch.setenv("PIP_FIND_LINKS", wheels.as_uri())
    assert asked_by_uv("tiny-package") == "found"


def test_of_pip_s_settings_only_those_of_where_packages_come_from_reach_uv(tmp_path):
    conf = tmp_path / "pip.conf"
    conf.write_text(
        "[global]\nindex-url = https://a:b@x/simple\nextra-index-url =\n    https://y\n    https://z\nfind-links = /a /b\n"
        "trusted-host = x y\nproxy = http://p\ncert = /c.pem\nclient-cert = /k.pem\nno-index =\ntarget = /t\nuser = 1\n"
        "prefix = /p\nrequire-virtualenv = 1\npython = /nothing\n[freeze]\nproxy = http://q\n"
    )
    env = {"HOME": "/nothing", "PIP_CONFIG_FILE": str(conf), "PIP_TARGET": "/t", "PIP_TRUSTED_HOST": "z", "PIP_PROXY": ""}
    found = settings.for_uv(env)
    assert {name: value for name, value in found.items() if not name.startswith("PIP_")} == {
        "HOME": "/nothing", "UV_INDEX_URL": "https://a:b@x/simple", "UV_EXTRA_INDEX_URL": "https://y https://z",
        "UV_INDEX_STRATEGY": "unsafe-best-match", "UV_FIND_LINKS": "/a,/b", "UV_INSECURE_HOST": "z",
        "ALL_PROXY": "http://p", "SSL_CERT_FILE": "/c.pem", "SSL_CLIENT_CERT": "/k.pem", "UV_NO_CONFIG": "1",
    }  # fmt: skip
    found = settings.for_uv({**env, "UV_INDEX": "https://own", "SSL_CERT_DIR": "/certs"})
    assert not found.keys() & {"UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "SSL_CERT_FILE"}
    assert not settings.of_pip({**env, "PIP_CONFIG_FILE": os.devnull}).keys() & {"UV_INDEX_URL", "UV_FIND_LINKS"}


@pytest.mark.parametrize("content", [b"\xff\xfe", b"index-url = x\n", b"[global]\na = 1\na = 2\n", b"[global\n"])
def test_a_file_of_pip_that_pip_cannot_read_is_left_to_pip(tmp_path, content):
    (tmp_path / "pip.conf").write_bytes(content)
    assert "UV_INDEX_URL" not in settings.of_pip({"HOME": "/nothing", "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")})


OF_UV = """
import pathlib, sys
sys.path.insert(0, {root!r})
from tool.local.runtime import build
try:
    build.uv("pip", "install", "--dry-run", "--python", sys.executable, "some-package", cwd=pathlib.Path({cwd!r}))
    print("found", end="")
except build.BuildFailed as failed:
    print(failed)
"""


def test_of_uv_s_settings_the_variables_win(tmp_path):
    (tmp_path / "uv.toml").write_text(
        'no-index = true\nfind-links = ["/a", "/b"]\nnative-tls = true\n[pip]\ntarget = "/x"\n'
        '[[index]]\nurl = "https://a"\ndefault = true\n[[index]]\nname = "b"\nurl = "https://b"\n'
    )
    env = {"HOME": "/nothing", "UV_CONFIG_FILE": str(tmp_path / "uv.toml"), "UV_NO_INDEX": "0", "UV_TARGET": "/x"}
    assert settings.for_uv(env) == {
        "HOME": "/nothing", "UV_NO_INDEX": "0", "UV_FIND_LINKS": "/a,/b", "UV_SYSTEM_CERTS": "true",
        "UV_DEFAULT_INDEX": "https://a", "UV_INDEX": "b=https://b", "UV_NO_CONFIG": "1",
    }  # fmt: skip
