"""What SMART says of the drives under the file systems that rayrack uses. Pure: no pyinfra.

Fields are those of ``smartctl --json`` (smartctl(8)). The bits of an NVMe drive's critical warning are those of the
SMART / Health Information log in the NVM Express base specification; what ATA attributes 5, 197 and 198 count is in
smartctl(8) and common to all vendors.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_NVME_FAILING = {
    2: "its reliability is degraded by media or internal errors",
    3: "it has become read-only",
}
_NVME_WORN = {
    0: "that its spare blocks are used up",
    1: "that it is too hot or too cold",
    4: "that its backup of the write cache has failed",
    5: "that its persistent memory region is unreliable",
}
_ATA_SECTORS = {5: "reallocated", 197: "pending", 198: "uncorrectable"}


@dataclass(frozen=True)
class Drive:
    """A physical drive, ``nvme0n1`` say, and its report; None: no smartctl, or a drive that it cannot read."""

    name: str
    smart: Mapping[str, Any] | None = None

    @property
    def title(self) -> str:
        model = (self.smart or {}).get("model_name")
        return f"/dev/{self.name} ({model})" if model else f"/dev/{self.name}"


def failing(drive: Drive) -> list[str]:
    """Why the drive is about to lose data, or has begun to."""
    if drive.smart is None:
        return []
    if (bits := _critical_warning(drive.smart)) is not None:
        return [text for bit, text in _NVME_FAILING.items() if bits >> bit & 1]
    if _part(drive.smart, "smart_status").get("passed") is False:
        return ["its own overall assessment is FAILED"]
    return []


def worn(drive: Drive) -> Iterator[str]:
    """What should be watched, or planned for."""
    if drive.smart is None:
        return
    log = _part(drive.smart, "nvme_smart_health_information_log")
    yield from (text for bit, text in _NVME_WORN.items() if (_critical_warning(drive.smart) or 0) >> bit & 1)
    if (used := _number(log.get("percentage_used"))) is not None and used >= 100:
        yield f"{used} % of its rated life used"
    if errors := _number(log.get("media_errors")):
        yield f"{errors} media errors"
    table = _part(drive.smart, "ata_smart_attributes").get("table")
    rows = [row for row in table if isinstance(row, dict)] if isinstance(table, list) else []
    for row in rows:
        what = _ATA_SECTORS.get(_number(row.get("id")) or 0)
        if what and (count := _number(_part(row, "raw").get("value"))):
            yield f"{count} {what} sectors"


def _critical_warning(smart: Mapping[str, Any]) -> int | None:
    return _number(_part(smart, "nvme_smart_health_information_log").get("critical_warning"))


def _part(report: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = report.get(name)
    return part if isinstance(part, dict) else {}


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
