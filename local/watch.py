"""Waits until something below these paths changes, prints what, and ends."""

import pathlib
import signal
import sys

from watchfiles import DefaultFilter, watch


def main(*paths: str) -> None:
    # watchfiles wants what is there; of a file its folder is watched, for editors replace files.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    wanted = [pathlib.Path(path).absolute() for path in paths]
    folders = {path if path.is_dir() else path.parent for path in wanted}
    here = pathlib.Path.cwd()
    changes = watch(
        *folders,
        watch_filter=Wanted(wanted),
        step=50,
        debounce=200,  # milliseconds: what an editor does in several steps is one change
        raise_interrupt=False,
    )
    for changed in changes:
        for path in sorted({pathlib.Path(path) for _, path in changed}):
            print(path.relative_to(here) if path.is_relative_to(here) else path)
        return
    sys.exit(130)


class Wanted(DefaultFilter):
    """Below what was asked for, and not what editors and Python leave behind."""

    def __init__(self, wanted: list[pathlib.Path]):
        super().__init__()
        self.wanted = wanted

    def __call__(self, change, path: str) -> bool:
        asked_for = any(pathlib.Path(path).is_relative_to(one) for one in self.wanted)
        return asked_for and super().__call__(change, path)
