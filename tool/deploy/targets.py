"""Chooses one of the two targets."""

from __future__ import annotations

import pathlib

from tool.deploy.environment import Environment
from tool.deploy.google_cloud import GoogleCloud
from tool.deploy.options import Options
from tool.deploy.progress import Progress
from tool.deploy.target import Target
from tool.deploy.this_machine import ThisMachine
from tool.deploy.trust_map import app_name, parsed


def chosen(options: Options, progress: Progress, environment: Environment) -> Target:
    """The target of this app. Its trust-map may be wrong or missing, because destroy does not need one."""
    file = pathlib.Path("trust-map")
    text = file.read_text("utf-8-sig", "replace") if file.is_file() else ""
    listed = [f"{options.prefix}{line.name}" for line in parsed(text)[0]]
    kind = ThisMachine if options.local else GoogleCloud
    return kind(options, progress, app_name(text), listed, environment)
