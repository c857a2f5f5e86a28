"""The one error rayrack raises for wrong input or a host that may not be changed."""

from collections.abc import Iterable


class InputError(Exception):
    """Wrong input: every line of ``problems`` says what, where, and what to do.

    Pure code raises it; ``deploy/`` turns it into a pyinfra error, so that a run ends with these lines and exit code 1.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))
