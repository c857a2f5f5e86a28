"""What the gate does with the findings of a host, and what it says. Pure: no pyinfra."""

from collections.abc import Sequence
from dataclasses import dataclass

from roles.gpu_health import rules
from roles.gpu_health.document import Health
from roles.gpu_health.expected import Expected
from roles.gpu_health.rules import Finding, Phase


@dataclass(frozen=True)
class Verdict:
    """A host's findings. ``override`` is the reason for which it is let in whatever they are."""

    host_name: str
    findings: tuple[Finding, ...]
    override: str | None = None

    @property
    def blocked(self) -> bool:
        return bool(rules.blocking(self.findings)) and self.override is None

    def lines(self) -> list[str]:
        """One block: what becomes of the host, then every finding that is not ``ok``. None when all is well."""
        shown = [finding for finding in self.findings if finding.severity != "ok"]
        if not shown:
            return []
        if self.blocked:
            head = "blocked by the health gate"
        elif rules.blocking(shown):
            head = f"the health gate would block it, and gpu_health_override lets it in: {self.override}"
        else:
            head = "the health gate lets it in and found"
        return [f"{self.host_name}: {head}", *(f"    {finding}" for finding in shown)]


def of(
    host_name: str, health: Health | str, expected: Expected, phase: Phase, override: dict[str, str] | None
) -> Verdict:
    """The verdict on a host; ``health`` is its document, or why there is none."""
    found: Sequence[Finding] = (
        [rules.unknown(health)] if isinstance(health, str) else rules.findings(health, expected, phase)
    )
    return Verdict(host_name, tuple(found), override["reason"].strip() if override else None)
