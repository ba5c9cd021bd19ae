"""What the tests of any function have in common: fakes at its edges, and a way to load it."""

import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import functions_framework
import google.auth.compute_engine._metadata as google_metadata
import pytest

from fakes import Fake, FakeMetadata, as_json
from tool.testing import ROOT, urls


@pytest.fixture
def receiver():
    """A server that answers everything, and notes what it was asked."""
    fake = Fake()
    fake.answer = as_json(200, {})
    yield fake
    fake.close()


@pytest.fixture
def metadata(monkeypatch):
    """A metadata server, which this process takes for its own."""
    fake = FakeMetadata()
    # google-auth reads the first of these when it is imported, so it is told directly.
    monkeypatch.setattr(google_metadata, "_GCE_METADATA_HOST", fake.address)
    monkeypatch.setenv("GCE_METADATA_IP", fake.address)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    yield fake
    fake.close()


@pytest.fixture
def own_logging(monkeypatch):
    """Lets a function set the logging of this process; called, it lets caplog hear of it, too."""
    handlers = logging.root.handlers
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(threading.Thread, "start", threading.Thread.start)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", ThreadPoolExecutor.submit)
    return lambda: logging.root.handlers.extend(handlers)


@pytest.fixture
def load(monkeypatch, own_logging, metadata, receiver):
    """Loads functions/NAME as functions-framework does, and returns a client that calls it:

        assert load("hello").get("/").status_code == 200

    Every other function is `receiver`. Keywords are variables of the environment.
    """
    path = list(sys.path)
    # Loading a function puts this function's own in the place of it, for good.
    monkeypatch.setattr(functions_framework, "errorhandler", functions_framework.errorhandler)

    def load(name, **variables):
        forget()
        folder = ROOT / "functions" / name.replace("-", "_")
        for variable, value in {**urls(receiver.address), **variables}.items():
            monkeypatch.setenv(variable, value)
        app = functions_framework.create_app(folder.name, str(folder / "main.py"), "http")
        own_logging()
        return app.test_client()

    def forget():
        """Each function has a main, so the last one's modules go."""
        for name, module in list(sys.modules.items()):
            if str(ROOT / "functions") in (getattr(module, "__file__", None) or ""):
                del sys.modules[name]
        sys.path[:] = path

    yield load
    forget()
