"""Prints what changes below these paths: a line for each time that files are saved."""

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
        rust_timeout=300,
        yield_on_timeout=True,
    )
    print(*map(str, next(changes)), flush=True)  # an empty line: from now on nothing is missed
    for changed in filter(None, changes):
        paths = sorted({pathlib.Path(path) for _, path in changed})
        print(*(p.relative_to(here) if p.is_relative_to(here) else p for p in paths), flush=True)


class Wanted(DefaultFilter):
    """Below what was asked for, and not what editors and Python leave behind."""

    def __init__(self, wanted: list[pathlib.Path]):
        super().__init__()
        self.wanted = wanted

    def __call__(self, change, path: str) -> bool:
        asked_for = any(pathlib.Path(path).is_relative_to(one) for one in self.wanted)
        return asked_for and super().__call__(change, path)
