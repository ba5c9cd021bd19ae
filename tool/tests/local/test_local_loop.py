"""A function in the foreground: with a breakpoint, and in a terminal that is closed."""

import fcntl
import os
import pty
import select
import signal
import subprocess
import termios
import time

import pytest

from tool.testing import ROOT, succeeded
from toys import call

STOPS = """
def entry(request):
    word = "stopped here"
    if "stop" in request.args:
        breakpoint()
    return word
"""


def take_terminal():
    """Makes it the controlling terminal, as a shell does, so that the kernel sends a signal when it is closed."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A process with its own terminal."""

    def __init__(self, *command, env):
        self.fd, inside = pty.openpty()
        ends = dict.fromkeys(("stdin", "stdout", "stderr"), inside)
        self.process = subprocess.Popen(
            command, env=env, start_new_session=True, preexec_fn=take_terminal, **ends
        )
        os.close(inside)
        self.said = ""

    def until(self, text):
        end = time.monotonic() + 90
        while text not in self.said:
            assert time.monotonic() < end, self.said
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.said += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:  # on Linux, this is how the end is reported
                    assert text in self.said, self.said

    def type(self, text):
        self.said = ""
        os.write(self.fd, text.encode())

    def control_c(self):
        """Does what a terminal does for Ctrl-C: sends a signal to every process in it."""
        os.killpg(self.process.pid, signal.SIGINT)

    def close(self):
        """Closes the terminal, like its window: its processes get a signal, and have no terminal any more."""
        os.close(self.fd)
        self.fd = None

    def end(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(20)
        if self.fd is not None:
            os.close(self.fd)


def test_a_function_in_the_foreground_stops_at_a_breakpoint(other):
    from concurrent.futures import ThreadPoolExecutor

    other.up("stops")
    succeeded(other.deploy("stops", STOPS, "--timeout=1", entry="entry"))
    other.let_in("allUsers", "stops")
    url = other.url("stops")
    terminal = Terminal(str(ROOT / "deploy.sh"), "run", "stops", "--local", env=other.env)
    try:
        terminal.until(f"stops runs here: {url}")
        with ThreadPoolExecutor() as pool:
            answer = pool.submit(call, url, path="/?stop=1")
            terminal.until("\n(Pdb) ")  # not wrapped in a log entry
            terminal.type("p word.upper()\n")
            terminal.until("STOPPED HERE")
            time.sleep(1.2)  # longer than the function's timeout, which does not apply here
            terminal.type("c\n")
            assert answer.result().text == "stopped here"
        terminal.control_c()
        terminal.until("stops runs in the background again")
    finally:
        terminal.end()
    assert call(url).text == "stopped here"
    assert call(url, path="/?stop=1").status_code in (500, 504)  # there is no terminal in the background


PRINTS = """
import os
def entry(request):
    print("printed by a call", flush=True)
    return str(os.getppid())
"""


@pytest.mark.parametrize("how", ["closed", "hung up"])
def test_a_function_whose_terminal_is_closed_runs_in_the_background_again(other, how):
    other.up("prints")
    succeeded(other.deploy("prints", PRINTS, entry="entry"))
    other.let_in("allUsers", "prints")
    url = other.url("prints")
    terminal = Terminal(str(ROOT / "deploy.sh"), "run", "prints", "--local", env=other.env)
    try:
        terminal.until("prints runs here")
        here = call(url).text
        if how == "closed":
            terminal.close()
        else:  # as a shell does for its jobs
            os.killpg(terminal.process.pid, signal.SIGHUP)
        assert terminal.process.wait(60) == 0
    finally:
        terminal.end()
    answer = call(url)
    assert answer.status_code == 200 and answer.text != here
    other.log("prints", having="printed by a call")


def test_a_function_in_the_foreground_ends_when_it_is_deployed_again(other):
    other.up("stops")
    succeeded(other.deploy("stops", STOPS, entry="entry"))
    other.let_in("allUsers", "stops")
    terminal = Terminal(str(ROOT / "deploy.sh"), "run", "stops", "--local", env=other.env)
    try:
        terminal.until("stops runs here")
        assert call(other.url("stops")).text == "stopped here"
        succeeded(other.deploy("stops", STOPS.replace("stopped here", "anew"), entry="entry"))
        assert call(other.url("stops")).text == "anew"
        assert terminal.process.wait(30) == 0
    finally:
        terminal.end()
    assert call(other.url("stops")).text == "anew"


def test_what_is_not_deployed_cannot_run_in_the_foreground(local):
    result = local.tool("run", "nothing")
    assert result.returncode == 1
    assert "nothing is not deployed on this machine" in result.stderr
