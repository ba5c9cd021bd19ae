"""Both stores of profiles, in a file and in Firestore, must pass the same tests."""

import concurrent.futures
import importlib.util
import os
import shutil
import signal
import subprocess
import threading

import pytest

from fake_firestore import FakeFirestore
from tool.testing import ROOT, free_port

PROFILE = {"username": "ada", "display_name": "Ada", "created_at": "2026-01-01T00:00:00Z"}


def load_stores():
    path = ROOT / "functions" / "user_profiles" / "stores.py"
    spec = importlib.util.spec_from_file_location("profiles_stores", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


stores = load_stores()


def real_gcloud():
    """The Google Cloud CLI of this machine, if it has one with the Firestore emulator."""
    gcloud = shutil.which("gcloud")
    if not gcloud or not shutil.which("java"):
        return None
    home = os.path.dirname(os.path.dirname(os.path.realpath(gcloud)))
    emulator = os.path.join(home, "platform", "cloud-firestore-emulator")
    return gcloud if os.path.isdir(emulator) else None


@pytest.fixture(scope="module")
def emulator(tmp_path_factory):
    gcloud = real_gcloud()
    if not gcloud:
        pytest.skip("left out: no gcloud with the Firestore emulator, or no Java")
    address = f"127.0.0.1:{free_port()}"
    config = str(tmp_path_factory.mktemp("gcloud"))
    process = subprocess.Popen(
        [gcloud, "emulators", "firestore", "start", f"--host-port={address}"],
        # These options make Java start faster, because it runs only for a few seconds.
        env={**os.environ, "CLOUDSDK_CONFIG": config, "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    too_long = threading.Timer(60, os.killpg, [process.pid, signal.SIGKILL])
    too_long.start()
    said = ""
    try:
        for line in process.stdout:
            said += line
            if "is now running" in line:
                break
        too_long.cancel()
        assert "is now running" in said, said
        warm_up(address)
        yield address
    finally:
        too_long.cancel()
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def warm_up(address):
    """Makes a first call, because that takes seconds, longer than a store waits."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.firestore import Client

    host = os.environ.get("FIRESTORE_EMULATOR_HOST")
    os.environ["FIRESTORE_EMULATOR_HOST"] = address
    try:
        client = Client(project="warm", credentials=AnonymousCredentials())
        client.document("warm/up").set({"warm": True}, timeout=60)
    finally:
        os.environ.pop("FIRESTORE_EMULATOR_HOST")
        if host:
            os.environ["FIRESTORE_EMULATOR_HOST"] = host


@pytest.fixture(params=["sqlite", "the fake Firestore", "Firestore's emulator"])
def open_store(request, tmp_path, monkeypatch):
    """Opens the store; each call acts like another process."""
    if request.param == "sqlite":
        monkeypatch.setenv("STORE", f"sqlite:{tmp_path / 'data.db'}")
        yield stores.open_profiles
        return
    # A project for each test: the emulator takes any name.
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", f"test-{abs(hash(tmp_path))}")
    monkeypatch.setenv("STORE", "firestore:profiles")
    if request.param == "the fake Firestore":
        fake = FakeFirestore()
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", fake.address)
        yield stores.open_profiles
        fake.close()
    else:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", request.getfixturevalue("emulator"))
        yield stores.open_profiles


def test_what_is_added_is_there_for_everyone(open_store):
    assert open_store().add(PROFILE, "the hash") is True
    assert open_store().get("ada") == (PROFILE, "the hash")


def test_a_name_is_given_once_and_its_profile_stays(open_store):
    store = open_store()
    store.add(PROFILE, "the hash")
    assert store.add({**PROFILE, "display_name": "Mallory"}, "another hash") is False
    assert store.get("ada") == (PROFILE, "the hash")


def test_an_unknown_name_has_no_profile(open_store):
    assert open_store().get("nobody") is None


@pytest.mark.parametrize("name", ["__ada__", "---", "_-_", "0" * 32])
def test_every_legal_name_can_be_kept(open_store, name):
    store = open_store()
    assert store.get(name) is None
    profile = {**PROFILE, "username": name, "display_name": "Ada \N{SNOWMAN} 'quoted' \x00"}
    assert store.add(profile, "the hash") is True
    assert store.get(name) == (profile, "the hash")


def test_of_many_at_the_same_moment_one_gets_the_name(open_store):
    store = open_store()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        tries = [pool.submit(store.add, PROFILE, f"hash {n}") for n in range(16)]
        assert sorted(t.result() for t in tries) == [False] * 15 + [True]


def test_many_names_at_the_same_moment_are_all_kept(open_store):
    names = [f"user-{n}" for n in range(50)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        added = pool.map(lambda n: open_store().add({**PROFILE, "username": n}, n), names)
        assert all(added)
    store = open_store()
    assert [store.get(name)[1] for name in names] == names
