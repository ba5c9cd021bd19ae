"""Ports that are set aside: for a clone and a name the same ones again, where they are free."""

import hashlib
import socket

FIRST, COUNT = 20000, 10000  # below the range from which connections take theirs


def set_aside(what: str, taken: set[int]) -> int:
    """A free port; the same for the same `what`, unless somebody else has it now."""
    start = int.from_bytes(hashlib.sha256(what.encode()).digest()[:4], "big")
    for step in range(COUNT):
        port = FIRST + (start + step * 7) % COUNT
        if port not in taken and not in_use(port):
            return port
    raise SystemExit(f"ERROR: no free port between {FIRST} and {FIRST + COUNT}")


def any_free() -> int:
    """A port for a moment, from the range that connections take theirs from."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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
