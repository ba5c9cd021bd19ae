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
    """A server that answers every request, and records it."""
    fake = Fake()
    fake.answer = as_json(200, {})
    yield fake
    fake.close()


@pytest.fixture
def metadata(monkeypatch):
    """A fake metadata server, which this process uses as its own."""
    fake = FakeMetadata()
    # google-auth reads the first of these only when it is imported, so it is set in the module.
    monkeypatch.setattr(google_metadata, "_GCE_METADATA_HOST", fake.address)
    monkeypatch.setenv("GCE_METADATA_IP", fake.address)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    yield fake
    fake.close()


@pytest.fixture
def own_logging(monkeypatch):
    """Lets a function set up the logging of this process. Call it to let caplog see the records, too."""
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

    All other functions are `receiver`. Keyword arguments become environment variables.
    """
    path = list(sys.path)
    # Loading a function replaces this, and does not restore it.
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
        """Removes the modules of the last function, because each function has a module named main."""
        for name, module in list(sys.modules.items()):
            if str(ROOT / "functions") in (getattr(module, "__file__", None) or ""):
                del sys.modules[name]
        sys.path[:] = path

    yield load
    forget()
