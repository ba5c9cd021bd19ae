"""The entry point of deploy.sh's Python: python -I tool/deploy/__main__.py WORD...

-I keeps the caller's folder and PYTHON* variables out of it.
"""

import codecs
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))


def as_it_can_be_printed(error: UnicodeError) -> tuple[str | bytes, int]:
    """Keeps bytes of a path that are not text; prints a "?" for what this terminal cannot show."""
    assert isinstance(error, UnicodeEncodeError)
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return codecs.lookup_error("replace")(error)


if __name__ == "__main__":
    codecs.register_error("printable", as_it_can_be_printed)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="printable")  # type: ignore[union-attr]
    from tool.deploy import command_line

    status = command_line.main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # nothing is left to do, and shutting Python down takes time
