"""Prints what changes below these folders: a line for each time that files are saved.

A TAB parts the paths of a line, for a blank may stand in one.
"""

import pathlib

from watchfiles import DefaultFilter, watch


def main(*folders: str) -> None:
    here = pathlib.Path.cwd()
    changes = watch(
        *(folder for folder in folders if pathlib.Path(folder).is_dir()),
        watch_filter=DefaultFilter(),  # not what editors and Python leave behind
        step=50,
        debounce=200,  # milliseconds: what an editor does in several steps is one change
        rust_timeout=300,
        yield_on_timeout=True,
    )
    next(changes)
    print(flush=True)  # an empty line: from now on nothing is missed
    for changed in filter(None, changes):
        paths = sorted({pathlib.Path(path).absolute() for _, path in changed})
        print(*(path.relative_to(here) for path in paths), sep="\t", flush=True)
