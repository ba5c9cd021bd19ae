"""Waits until something below these paths changes, prints what, and ends.

What changed since it ended the last time is printed at once: nothing that was saved meanwhile,
while a deploy ran, gets lost.
"""

import pathlib
import signal
import sys

from watchfiles import Change, DefaultFilter, watch

from local import state

wanted = DefaultFilter()  # not what editors and Python leave behind


def main(*paths: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    there = [path for path in map(pathlib.Path.absolute, map(pathlib.Path, paths)) if path.exists()]
    before, now = state.read("watched") or {}, seen(there)
    if before.get("paths") != list(paths):
        before = {"files": now}
    changed = {
        path for path in before["files"].keys() | now if before["files"].get(path) != now.get(path)
    }
    if not changed:
        # 200 ms: what an editor does in several steps is one change.
        events = watch(*there, watch_filter=wanted, step=50, debounce=200, raise_interrupt=False)
        changed = {path for _, path in next(events, ())}
    if not changed:
        sys.exit(130)  # Ctrl-C
    state.write("watched", {"paths": list(paths), "files": seen(there)})
    here = pathlib.Path.cwd()
    for path in map(pathlib.Path, sorted(changed)):
        print(path.relative_to(here) if path.is_relative_to(here) else path)


def seen(paths: list[pathlib.Path]) -> dict[str, list[int]]:
    """Each file, and what changes when it is saved."""
    files = (file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]))
    found = {}
    for file in files:
        if file.is_file() and wanted(Change.modified, str(file)):
            status = file.stat()
            found[str(file)] = [status.st_mtime_ns, status.st_size, status.st_ino]
    return found
