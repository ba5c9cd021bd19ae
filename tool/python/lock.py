"""Makes every requirements.txt from its requirements.in: the newest versions that work together.

For Python 3.11 to 3.14 on every system. Every function uses the root's lock. A function's own lock has
what it adds. The locks of tests and tool fit these, too, because the tests run in one environment with
all of them. "./deploy.sh lock" ends up here.
"""

from __future__ import annotations

import os
import pathlib
import re
import tempfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tool.deploy import processes
from tool.deploy.cloud import checksum
from tool.deploy.progress import Stop, error, say
from tool.python import settings
from tool.python.reading import text_of

UV = ".venv/bin/uv"
ROOT_LOCK = pathlib.Path("requirements.txt")
TOOL_LOCK = pathlib.Path("tool/python/requirements.txt")
SYSTEMS = (
    "x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "x86_64-apple-darwin", "aarch64-apple-darwin",
)  # fmt: skip
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
SUM = "# checksum "


class Lock(NamedTuple):
    """A lock file, and the locks that its versions must fit."""

    file: pathlib.Path
    fits_to: tuple[pathlib.Path, ...] = ()

    @property
    def wanted(self) -> pathlib.Path:
        return self.file.with_suffix(".in")


def locks() -> list[Lock]:
    own = sorted(pathlib.Path("functions").glob("*/requirements.in"))
    functions = [Lock(file.with_suffix(".txt"), (ROOT_LOCK,)) for file in own]
    theirs = tuple(lock.file for lock in functions)
    tests = pathlib.Path("tests/requirements.txt")
    browser = pathlib.Path("tests/browser-requirements.txt")
    all_locks = [
        Lock(ROOT_LOCK),
        *functions,
        Lock(TOOL_LOCK, (ROOT_LOCK,)),
        Lock(tests, (ROOT_LOCK, TOOL_LOCK, *theirs)),
        Lock(browser, (ROOT_LOCK, TOOL_LOCK, tests)),
    ]
    return [lock for lock in all_locks if lock.wanted.exists()]


async def lock(check: bool) -> int:
    """Makes the locks, or with `check` says which lock is out of date."""
    if check:
        stale = [lock for lock in locks() if is_stale(lock)]
        for old in stale:
            error(f"{old.file} is not the lock of {old.wanted}. Run ./deploy.sh lock")
        return 1 if stale else 0
    for one in locks():
        await make(one)
    # A package without a wheel has to be compiled where it is installed, so each must have one on each system.
    for file in (TOOL_LOCK, *(one.file for one in locks() if one.file.parts[0] == "functions")):
        await has_wheels(file)
    say(
        "every package has a wheel on Linux and macOS, x86-64 and arm64, for Python"
        f" {VERSIONS[0]} to {VERSIONS[-1]}"
    )
    return 0


def stale_of_app() -> list[str]:
    """A sentence for each lock of the app that is missing or out of date. A lock without a checksum was not
    made by this tool, and is left alone."""
    return [
        f"{one.file} is not the lock of {one.wanted}: what that adds is not installed. Run ./deploy.sh lock"
        for one in locks()
        if (one.file == ROOT_LOCK or one.file.parts[0] == "functions")
        and (not one.file.exists() or SUM in text_of(one.file)) and is_stale(one)
    ]  # fmt: skip


def is_stale(lock: Lock) -> bool:
    if not lock.file.exists():
        return True
    lines = text_of(lock.file).splitlines(keepends=True)
    noted = [line.removeprefix(SUM).strip() for line in lines if line.startswith(SUM)]
    return noted != [str(sum_of(lock, lines))]


def sum_of(lock: Lock, lines: Iterable[str]) -> int:
    """A checksum of the requirements and of the lock."""
    locked = "".join(line for line in lines if not line.startswith(SUM))
    return checksum(f"{text_of(lock.wanted)}{locked}".encode(errors="surrogateescape"))


async def make(lock: Lock) -> None:
    constraints = [word for file in lock.fits_to for word in ("-c", str(file))]
    with tempfile.TemporaryDirectory() as folder:
        compiled = pathlib.Path(folder) / "requirements.txt"
        await uv(
            "pip", "compile", "--quiet", "--universal", "--python-version", VERSIONS[0],
            "--upgrade", "--no-header", "--no-emit-index-url", *constraints, str(lock.wanted),
            "-o", str(compiled),
        )  # fmt: skip
        lines = compiled.read_text("utf-8").splitlines(keepends=True)
    if lock.file.parts[0] == "functions":
        lines = list(without(known_in(ROOT_LOCK), lines))
    lines = [f"# Made by ./deploy.sh lock from {lock.wanted}. Do not edit\n", *lines]
    lines.append(f"{SUM}{sum_of(lock, lines)}\n")
    lock.file.write_text("".join(lines), "utf-8")
    say(f"{lock.file}: {sum(map(is_package, lines))} packages")


def is_package(line: str) -> bool:
    return bool(re.match("[a-z0-9]", line))


def known_in(file: pathlib.Path) -> set[str]:
    lines = text_of(file).splitlines()
    return {line.split()[0] for line in lines if is_package(line)}


def without(known: set[str], lines: Iterable[str]) -> Iterator[str]:
    """The lines of a lock, without the packages that another lock has."""
    left_out = False
    for line in lines:
        if is_package(line):
            left_out = line.split()[0] in known
        if not left_out:
            yield line


async def has_wheels(file: pathlib.Path) -> None:
    for system in SYSTEMS:
        for version in VERSIONS:
            words = (
                "pip", "install", "--quiet", "--dry-run", "--no-deps", "--target", tempfile.gettempdir(),
                "--only-binary", ":all:", "--python-platform", system, "--python-version", version,
                "-r", str(ROOT_LOCK), "-r", str(file),
            )  # fmt: skip
            what = f"{file} has a package without a wheel for Python {version} on {system}"
            await uv(*words, failure=what)


async def uv(*words: str, failure: str = "uv could not lock") -> None:
    done = await processes.run(UV, *words, env=settings.to_run_uv(os.environ))
    if done.status:
        error(done.err.strip())
        raise Stop(failure)
