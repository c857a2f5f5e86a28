"""pyinfra's settings for every run from this directory (https://docs.pyinfra.com/en/3.x/config.html)."""

import sys

import pyinfra_cli.cli
from pyinfra import config
from pyinfra.api.exceptions import PyinfraError

# An assignment to a plain name would be lost: pyinfra reads attributes of its config.
config.REQUIRE_PYINFRA_VERSION = "==3.10.0"

# Of exactly that version: without -y pyinfra asks before it changes anything, and once more for a host that has failed.
# In CI and in a pipe that ends in an EOFError with a traceback. There, failed hosts are left out as with -y, and
# changes that nobody can confirm are refused in one line.
_ask = pyinfra_cli.cli._do_confirm


def _confirm(question: str) -> bool:
    try:
        return bool(_ask(question))
    except EOFError:
        refused = f"{question.partition(',')[0]}, and nobody is there to confirm it: add -y, or --dry to look only"
        raise PyinfraError(refused) from None


pyinfra_cli.cli._do_confirm = _confirm
if sys.stdin is None or not sys.stdin.isatty():
    pyinfra_cli.cli._set_fail_prompts = lambda *_: None
