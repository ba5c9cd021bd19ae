"""The entry point of deploy.sh's Python: python -I -X utf8 tool/deploy/__main__.py WORD...

-I keeps the caller's folder and PYTHON* variables out of it; -X utf8, the caller's locale.
"""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))

from tool.python.printing import prepare  # noqa: E402

if __name__ == "__main__":
    prepare(sys.stdout, sys.stderr)  # type: ignore[arg-type]
    from tool.deploy import command_line

    status = command_line.main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # nothing is left to do, and shutting Python down takes time
