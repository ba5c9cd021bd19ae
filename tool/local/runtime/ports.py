"""Reserves ports: the same ones again for the same clone and name, if they are free."""

import fcntl
import functools
import os
import socket
import zlib

FIRST, COUNT = 20000, 10000  # below the range that outgoing connections use


def set_aside(what: str, taken: set[int]) -> int:
    """A free port; always the same for the same `what`, unless somebody else uses it or is about to."""
    start = zlib.crc32(what.encode(errors="surrogateescape"))
    for step in range(COUNT):
        port = FIRST + (start + step * 7) % COUNT
        if port not in taken and is_free(port):
            return port
    raise SystemExit(f"ERROR: no free port between {FIRST} and {FIRST + COUNT}")


def is_free(port: int) -> bool:
    """Whether nobody uses it, or is about to. A free port is locked until this process ends."""
    try:
        fcntl.lockf(locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)  # the byte with the port's number
    except OSError:
        return False
    return not in_use(port)


@functools.cache
def locks() -> int:
    import tempfile  # slow to load, and most commands of a deploy set no port aside

    name = f"ports-of-local-functions-{os.getuid()}"
    return os.open(os.path.join(tempfile.gettempdir(), name), os.O_RDWR | os.O_CREAT, 0o600)


def in_use(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
