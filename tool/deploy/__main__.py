"""The one way into deploy.sh's Python: python -I tool/deploy/__main__.py WORD...

-I keeps the caller's folder and PYTHON* variables out of it.
"""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))

if __name__ == "__main__":
    from tool.deploy import command_line

    status = command_line.main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # nothing is left to be done, and taking Python apart takes time
