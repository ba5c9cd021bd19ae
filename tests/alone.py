"""One function in a process of its own, started as on Cloud Run, without the invoker check."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid

from tool.testing import ROOT, assert_no_secret, free_port


def stage(function, folder):
    """Stages the folder of a function as deploy.sh does, for a test that runs it alone."""
    shutil.copytree(ROOT / "functions" / function, folder)
    shutil.copytree(ROOT / "shared", folder / "shared")
    return folder


class Alone:
    """One function in a process of its own, started as on Cloud Run, without the invoker check."""

    def __init__(self, staged, target, preexec_fn=None, **env):
        self.log, self.read = open(staged.parent / f"{uuid.uuid4()}.log", "w+"), 0
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(staged),
            "FUNCTION_TARGET": target,
            "GUNICORN_LOG_LEVEL": "info",
            "HOST": "127.0.0.1",
            "PORT": str(free_port()),
            **env,
        }
        self.process = subprocess.Popen(
            [os.path.join(os.path.dirname(sys.executable), "functions-framework")],
            env=env,
            cwd=staged,
            text=True,
            stdout=self.log,
            stderr=subprocess.PIPE,
            preexec_fn=preexec_fn,
            start_new_session=True,
        )
        self.said = self.process.stderr
        for line in self.said:
            if "Listening at" in line:
                self.url = line.split()[-2]
                break
        # The rest of its output must be read, or it would block once the pipe is full.
        self.reader = threading.Thread(target=self.said.read, daemon=True)
        self.reader.start()

    def workers(self):
        """The ids of the processes that answer."""
        listed = subprocess.run(["pgrep", "-P", str(self.process.pid)], stdout=subprocess.PIPE)
        return [int(pid) for pid in listed.stdout.split()]

    def logged(self):
        """What was logged since the last call of this."""
        self.log.seek(self.read)
        text = self.log.read()
        self.read += len(text)
        return text

    def problem(self):
        """The message of the only warning or error that was logged since then."""
        lines = [json.loads(line) for line in self.logged().splitlines()]
        [message] = [line["message"] for line in lines if line["severity"] != "INFO"]
        return message

    def stop(self):
        self.log.seek(0)
        assert_no_secret(self.log.read())
        os.killpg(self.process.pid, signal.SIGKILL)  # with its workers, which would keep running
        self.process.wait()
        self.reader.join(30)
        self.said.close()
        self.log.close()
