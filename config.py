"""pyinfra's settings for every run from this directory (https://docs.pyinfra.com/en/3.x/config.html)."""

import sys

import pyinfra_cli.cli
from pyinfra.api.exceptions import PyinfraError

REQUIRE_PYINFRA_VERSION = "==3.10.0"


def _nobody_to_ask(question: str) -> bool:
    raise PyinfraError(
        f"{question.partition(',')[0]}, and nobody is there to confirm it: add -y, or --dry to look only"
    )


# Without -y pyinfra asks before it changes anything, and whether to go on without a host that has failed. In a pipe or
# in CI that ends in an EOFError with a traceback: there, failed hosts are left out as with -y, and no change is made.
if sys.stdin is None or not sys.stdin.isatty():
    pyinfra_cli.cli._set_fail_prompts = lambda *_: None
    pyinfra_cli.cli._do_confirm = _nobody_to_ask
