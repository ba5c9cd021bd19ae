"""The one place where deploy.sh starts processes: each in its own process group, and none outlives deploy.sh.

A task that is cancelled (Ctrl-C, SIGTERM, SIGHUP) while it waits for a process first ends it, with all
that it has started, and continues only when it is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any, NamedTuple, TypeVar

LAST_SECONDS = 20  # that a process may take to end once it is told to

Result = TypeVar("Result")


class Finished(NamedTuple):
    status: int
    out: str
    err: str


async def run(
    *command: str,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    sent: str = "",
    passes_on: bool = False,
) -> Finished:
    """Runs a command to its end. `sent` is its standard input; `passes_on`: it writes to our output."""
    async with started(*command, env=env, cwd=cwd, passes_on=passes_on) as process:
        out, err = await process.communicate(sent.encode(errors="surrogateescape"))
    assert process.returncode is not None
    decoded = [(part or b"").decode("utf-8", "surrogateescape") for part in (out, err)]
    return Finished(process.returncode, *decoded)


@contextlib.asynccontextmanager
async def started(
    *command: str,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    passes_on: bool = False,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that is gone when this is left."""
    output = None if passes_on else asyncio.subprocess.PIPE
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command, env=env, cwd=cwd, process_group=0,
            stdin=asyncio.subprocess.PIPE, stdout=output, stderr=output,
        )
    )  # fmt: skip
    try:
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        await end(await starting)
        raise
    try:
        yield process
    finally:
        if process.returncode is None:
            await end(process)


async def end(process: asyncio.subprocess.Process) -> None:
    """Ends it with its children: gcloud, for example, is a shell with a child."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(asyncio.TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await process.wait()
                return


@contextlib.asynccontextmanager
async def together() -> AsyncIterator[asyncio.TaskGroup]:
    """Work that runs side by side. The first failure ends the rest, and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def side_by_side(*work: Coroutine[Any, Any, Result]) -> list[Result]:
    """Their results, in order."""
    async with together() as group:
        tasks = [group.create_task(one) for one in work]
    return [task.result() for task in tasks]
