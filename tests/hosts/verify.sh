#!/bin/bash
# verify.sh INVENTORY: the checks of this directory with the environment that is there, as on an operator's desk, which
# may be a Mac. Installs nothing.
set -euo pipefail

cd "$(dirname "$0")/../.."
python=python3
[ ! -x .venv/bin/python ] || python=.venv/bin/python
[ -z "${VIRTUAL_ENV:-}" ] || python=$VIRTUAL_ENV/bin/python

if ! "$python" -c 'import pyinfra, pydantic, pytest, testinfra' 2>/dev/null; then
  echo "verify: $python lacks what the checks need: python3 -m venv .venv && .venv/bin/pip install -e '.[verify]' && . .venv/bin/activate" >&2
  exit 1
fi
exec "$python" -m pytest tests/hosts --inventory "$1"
