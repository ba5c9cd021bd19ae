"""A function runs from a copy; messages about its files name the ones that you edit."""

import json
import os
import pathlib
import re
from collections.abc import Sequence


def roots(origin: str) -> tuple[str, str]:
    """The folders of a function's files: its own, and shared/."""
    own = pathlib.Path(origin)
    beside = own.parent.parent if own.parent.name == "functions" else own
    return f"{own}/", f"{beside}/shared/"


def named(text: str, folder: pathlib.Path, origin: str) -> str:
    """The text with the paths of those files instead of their copies in `folder`."""
    if not origin or folder.name not in text:
        return text
    own, shared = roots(origin)
    for there, here in ((f"{folder}/shared/", shared), (f"{folder}/", own)):
        text = text.replace(there, here)
        text = text.replace(json.dumps(there)[1:-1], json.dumps(here)[1:-1])
    return text


def place(said: Sequence[str], origin: str) -> str:
    """Where in those files a traceback ends: FILE line NUMBER, relative to the function's folder; or ""."""
    own, shared = roots(origin)
    found = [re.search(r'File "(.+)", line (\d+)', line) for line in said]
    for match in reversed([match for match in found if match]):
        for root, prefix in ((own, ""), (shared, "shared/")):
            if match[1].startswith(root):
                return f"{prefix}{os.path.relpath(match[1], root)} line {match[2]}"
    return ""
