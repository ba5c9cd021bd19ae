"""What is logged, as Cloud Logging and Error Reporting read it: one entry, one line."""

import json
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import flask
import pytest

from shared import logs
from tool.testing import ROOT


def entries(code):
    """What a separate process logs when it runs this code."""
    # Tracebacks show lines of this code, so no line may contain the text that must not be logged.
    begin = "import logging, sys, threading; sent = 'what a ' + 'user sent'\n"
    begin += "from shared import logs\nlogs.to_standard_output()\n"
    command = [sys.executable, "-c", begin + code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stderr == ""
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_an_entry_has_the_fields_that_cloud_logging_reads():
    [entry] = entries("logging.info('Hello %s,\\nthere', 'you')")
    assert entry.keys() == {"severity", "time", "message"}
    assert entry["severity"] == "INFO"
    assert entry["message"] == "Hello you,\nthere"
    assert entry["time"].endswith("+00:00")


@pytest.mark.parametrize(
    "level, severity",
    [(20, "INFO"), (25, "INFO"), (30, "WARNING"), (35, "WARNING"), (40, "ERROR"), (99, "CRITICAL")],
)
def test_every_severity_is_one_of_cloud_logging(level, severity):
    [entry] = entries(f"logging.log({level}, 'x')")
    assert entry["severity"] == severity


FAILURE = """
def inner():
    raise ValueError(sent)
def outer():
    try:
        inner()
    except ValueError as error:
        raise KeyError(sent) from error
"""


def test_an_exception_is_one_entry_with_its_traceback_and_without_its_text():
    [entry] = entries(
        FAILURE + "try:\n    outer()\nexcept KeyError:\n    logging.exception('It failed')"
    )
    assert (entry["severity"], entry["message"]) == ("ERROR", "It failed")
    trace = entry["stack_trace"]
    assert trace.startswith("Traceback (most recent call last):\n  File ")
    assert trace.endswith("\nKeyError")
    # The cause comes first, as Python prints it.
    assert (
        trace.index(", in inner\n") < trace.index("\nValueError\n") < trace.rindex(", in outer\n")
    )
    assert "what a user sent" not in json.dumps(entry)


def test_a_cause_that_was_taken_off_is_not_told():
    code = FAILURE.replace("from error", "from None")
    [entry] = entries(code + "try:\n    outer()\nexcept KeyError:\n    logging.exception('It failed')")
    assert entry["stack_trace"].count("Traceback") == 1


def test_a_stack_is_kept_in_the_entry():
    [entry] = entries("def here():\n    logging.warning('Odd', stack_info=True)\nhere()")
    assert entry["message"] == "Odd"
    assert entry["stack_trace"].startswith("Stack (most recent call last):\n")
    assert ", in here" in entry["stack_trace"]


def test_exception_without_an_exception_is_an_entry_all_the_same():
    [entry] = entries("logging.exception('No exception here')")
    assert entry.keys() == {"severity", "time", "message"}


def test_every_error_of_a_chain_and_of_a_group_has_its_place():
    code = """
first, second = ValueError(sent), KeyError(sent)
first.__cause__, second.__cause__ = second, first  # a circle
def together():
    raise ExceptionGroup(sent, [first, TypeError(sent)])
try:
    together()
except ExceptionGroup as group:
    try:
        raise OSError(sent)
    except OSError as error:
        logging.error("It failed", exc_info=error)
"""
    [entry] = entries(code)
    trace = entry["stack_trace"]
    order = ["\nExceptionGroup\n", "\nIn this group:\n", "\nKeyError\n", "direct cause of", "\nValueError\n",
             "\nIn this group:\n", "\nTypeError\n", "During handling of", "\nOSError"]  # fmt: skip
    assert re.search(".*".join(order), trace, re.S)
    assert trace.count("ValueError") == 1 and "what a user sent" not in json.dumps(entry)


@pytest.mark.parametrize(
    "line, message",
    [
        ("logging.error(ValueError(sent))", "ValueError"),
        ("logging.error('%d', sent)", "TypeError at .*:5"),
        ("logging.error('Hello', sent)", "TypeError at .*:5"),
        ("logging.error('%s', Odd())", "ValueError at .*:5"),
    ],
)
def test_what_cannot_be_written_is_one_entry_without_what_a_user_sent(line, message):
    odd = "class Odd: __str__ = lambda self: int(sent)\n"
    [entry] = entries(odd + line)
    assert entry["severity"] == "ERROR" and re.search(f"{message}$", entry["message"])
    assert "what a user sent" not in json.dumps(entry)


def test_a_thread_may_end_itself():
    assert entries("t = threading.Thread(target=sys.exit)\nt.start()\nt.join()") == []


def test_a_library_s_warnings_about_an_answer_are_not_logged():
    """They quote the whole URL, including what a user searched for."""
    assert entries("logging.getLogger('urllib3.connection').warning('url=/?q=grace')") == []


def test_a_crash_in_a_thread_is_one_entry():
    [entry] = entries(FAILURE + "t = threading.Thread(target=outer)\nt.start()\nt.join()")
    assert (entry["severity"], entry["message"]) == ("CRITICAL", "A thread crashed: KeyError")
    assert entry["stack_trace"].endswith("\nKeyError")
    assert "what a user sent" not in json.dumps(entry)


def test_a_request_s_trace_goes_into_the_entry_and_along_with_a_call():
    trace = "0af7651916cd43dd8448eb211c80319c"
    header = {"Traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    with flask.Flask("small").test_request_context(headers=header):
        assert logs.trace_id() == trace
        assert logs.trace_headers() == header


@pytest.mark.parametrize("header", ["", "00-x-y-01", "00-" + "g" * 32 + "-1-01", "\n"])
def test_a_broken_trace_is_no_trace(header):
    environ = {"HTTP_TRACEPARENT": header}
    with flask.Flask("small").test_request_context(environ_overrides=environ):
        assert logs.trace_id() is None


def traced(number):
    """A request with a trace of its own."""
    header = {"Traceparent": f"00-{number:032x}-b7ad6b7169203331-01"}
    return flask.Flask("small").test_request_context(headers=header)


@pytest.fixture
def in_threads(own_logging):
    logs.to_standard_output()
    own_logging()


def test_a_thread_that_a_request_starts_belongs_to_its_trace(in_threads):
    seen = []
    with traced(1):
        thread = threading.Thread(target=lambda: seen.append(logs.trace_id()))
        thread.start()
    thread.join(30)
    outside = threading.Thread(target=lambda: seen.append(logs.trace_id()))
    outside.start()
    outside.join(30)
    assert seen == [f"{1:032x}", None]


def test_a_pool_that_outlives_a_request_keeps_none_of_its_trace(in_threads):
    with ThreadPoolExecutor(1) as pool:
        for number in (1, 2):
            with traced(number):
                assert pool.submit(logs.trace_id).result(30) == f"{number:032x}"
                assert [*pool.map(lambda _: logs.trace_id(), "ab")] == [f"{number:032x}"] * 2
        assert pool.submit(logs.trace_id).result(30) is None


def test_a_thread_of_a_class_of_its_own_belongs_to_the_trace_too(in_threads):
    class Own(threading.Thread):
        def run(self):
            self.seen = logs.trace_id()

    with traced(3):
        thread = Own()
        thread.start()
        thread.join(30)
    assert thread.seen == f"{3:032x}"
