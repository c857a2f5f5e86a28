"""What the gateway role reads from a host: all of it in one command, since each fact is one round trip."""

import json
import shlex
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from pyinfra.api.facts import FactBase

from roles import host_programs
from roles.gateway.activation import ASK, CANDIDATE, CERTIFICATE, CONFIG, DISTRIBUTION_UNIT, UNIT, State
from roles.unit_state import blocks

DIFFERENCES = ("CandidateDiffers=yes", "CertificateDiffers=yes", "KeysDiffer=yes")
# The certificates of a text, whatever stands around them and however their lines are broken.
_CHAIN = "chain() { sed -n '/BEGIN CERT/,/END CERT/p' | tr -d '[:space:]' | sha256sum; }"


class GatewayState(FactBase[State]):
    """The gateway's units, whether its candidate is accepted, what it says of itself at ``health_url``, and whether it
    runs with the certificate and the keys that its files hold.
    """

    def command(self, health_url: str) -> str:
        properties = "ActiveState,UnitFileState,NeedDaemonReload"
        return (
            f"systemctl show -p Id,{properties} {UNIT} {DISTRIBUTION_UNIT}; "
            f"cmp -s {CANDIDATE} {CONFIG} || echo CandidateDiffers=yes; "
            f"{_certificate_differs(health_url)}; "
            f"{_keys_differ()}; "
            # One that does not run says nothing: that is an answer, too.
            f"{ASK} --max-time 3 {health_url} || true"
        )

    def process(self, output: Iterable[str]) -> State:
        lines = list(output)
        differs = set(DIFFERENCES).intersection(lines)
        health = next((_health(line) for line in lines if line.startswith("{")), {})
        shown = (line for line in lines if line not in differs and not line.startswith("{"))
        units = {block["Id"]: block for block in blocks(shown)}
        ours = units.get(UNIT, {})
        return State(
            active=ours.get("ActiveState") in ("active", "reloading"),
            enabled=ours.get("UnitFileState") == "enabled",
            unit_file_changed=ours.get("NeedDaemonReload") == "yes",
            distribution_service_active=units.get(DISTRIBUTION_UNIT, {}).get("ActiveState", "inactive")
            not in ("inactive", "failed"),
            candidate_differs="CandidateDiffers=yes" in differs,
            loaded_config=health.get("config"),
            loaded_unit=health.get("unit"),
            certificate_differs="CertificateDiffers=yes" in differs,
            keys_differ="KeysDiffer=yes" in differs,
        )


class GatewayPlaces(FactBase[dict[str, str]]):
    """``OWNER:GROUP MODE`` by path, of what is there."""

    def command(self, paths: Sequence[str]) -> str:
        return f"for path in {shlex.join(paths)}; do [ ! -e $path ] || stat -c '%n %U:%G %a' $path; done"

    @staticmethod
    def default() -> dict[str, str]:
        return {}

    def process(self, output: Iterable[str]) -> dict[str, str]:
        return {path: state for path, _, state in (line.partition(" ") for line in output)}


class GatewayUnit(FactBase[bool]):
    """Whether the gateway's unit runs, or would at the next boot."""

    def command(self) -> str:
        return f"systemctl show -P ActiveState -P UnitFileState {UNIT}"

    @staticmethod
    def default() -> bool:
        return False

    def process(self, output: Iterable[str]) -> bool:
        return bool({"active", "reloading", "activating", "enabled"}.intersection(output))


class CertificateWell(FactBase[bool]):
    """Whether `gateway_certificate ensure` for these names has nothing to do."""

    def command(self, names: Sequence[str]) -> str:
        check = shlex.join([f"{host_programs.BIN}/gateway_certificate", "check", *names])
        return f"if {check} >/dev/null 2>&1; then echo well; fi"

    @staticmethod
    def default() -> bool:
        return False

    def process(self, output: Iterable[str]) -> bool:
        return "well" in output


def _certificate_differs(health_url: str) -> str:
    """Told only when the gateway shows one."""
    show = f"timeout 5 openssl s_client -connect {urlsplit(health_url).netloc} -showcerts </dev/null 2>/dev/null"
    return (
        f"{_CHAIN}; shown=$({show} | chain); "
        f'[ "$shown" = "$(chain </dev/null)" ] || [ "$shown" = "$(cat {CERTIFICATE} 2>/dev/null | chain)" ] '
        "|| echo CertificateDiffers=yes"
    )


def _keys_differ() -> str:
    """Told only by a program that is there; a gateway that does not run differs in nothing."""
    program = f"{host_programs.BIN}/api_keys"
    return f"[ ! -x {program} ] || {program} check >/dev/null 2>&1 || echo KeysDiffer=yes"


def _health(line: str) -> dict[str, str]:
    """Something else may answer on the gateway's port before it is ours."""
    try:
        answer = json.loads(line)
    except ValueError:
        return {}
    return {key: value for key, value in answer.items() if isinstance(value, str)}
