#!/usr/bin/env bash
# Deploys the functions, and allows exactly the calls that trust-map lists.
# "./deploy.sh help" says how to use it. What a deploy does, in this order, and where:
#   reads trust-map, flags and variables     tool/deploy/app.py
#   checks the project                       tool/deploy/preflight.py
#   enables APIs; makes service accounts     tool/deploy/apply.py
#   makes the database; grants roles         tool/deploy/apply.py
#   builds and starts each function          tool/deploy/rollout.py
#   sets its policy: who may invoke it       tool/deploy/rollout.py
#   calls every function as every caller     tool/deploy/verify.py
# This file finds a Python for that. Bash 3.2 is enough.
set -euo pipefail
unset CDPATH
self=${BASH_SOURCE[0]}
while [ -L "$self" ]; do   # called through a link
    link=$(readlink "$self")
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
root=$(cd "$(dirname "$self")" && pwd)

runs() { "$1" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 11))' > /dev/null 2>&1; }

from_gcloud() { gcloud info --format='value(basic.python_location)' 2> /dev/null; }

for python in ${PYTHON:+"$PYTHON"} "$root/.venv/bin/python" python3 python3.14 python3.13 python3.12 python3.11; do
    if runs "$python"; then exec "$python" -I -X utf8 "$root/tool/deploy/__main__.py" "$@"; fi
done
case " $* " in *' --local '*) ;; *) python=$(from_gcloud) && runs "$python" && exec "$python" -I -X utf8 "$root/tool/deploy/__main__.py" "$@" ;; esac
echo "deploy.sh: Python 3.11 or newer is needed. See https://www.python.org/downloads/, or name one that you have: PYTHON=/path/to/python3 ./deploy.sh" >&2
exit 1
