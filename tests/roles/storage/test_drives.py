"""What is made of a drive's report. The fields and their types are those that smartctl 7 prints with --json."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.storage.drives import Drive, failing, worn

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def nvme(**log: int) -> Drive:
    healthy = {
        "critical_warning": 0,
        "temperature": 38,
        "available_spare": 100,
        "available_spare_threshold": 10,
        "percentage_used": 3,
        "media_errors": 0,
    }
    passed = not log.get("critical_warning")  # smartctl calls any warning of an NVMe drive a failure
    report = {"model_name": "SSD 990", "smart_status": {"passed": passed}}
    return Drive("nvme0n1", {**report, "nvme_smart_health_information_log": {**healthy, **log}})


def ata(*, passed: bool = True, **counts: int) -> Drive:
    ids = {"reallocated": 5, "power_on_hours": 9, "pending": 197, "uncorrectable": 198}
    table = [
        {"id": ids[name], "value": 100, "raw": {"value": count, "string": str(count)}} for name, count in counts.items()
    ]
    return Drive("sda", {"smart_status": {"passed": passed}, "ata_smart_attributes": {"table": table}})


def test_a_healthy_drive_has_nothing_to_say() -> None:
    for drive in (nvme(), ata(reallocated=0, pending=0, power_on_hours=40_000)):
        assert (failing(drive), list(worn(drive))) == ([], [])


def test_a_drive_without_a_report_is_not_called_anything() -> None:
    assert (failing(Drive("sda")), list(worn(Drive("sda")))) == ([], [])


@pytest.mark.parametrize(("bit", "what"), [(2, "reliability is degraded"), (3, "read-only")])
def test_an_nvme_drive_fails_by_its_own_critical_warnings(bit: int, what: str) -> None:
    (line,) = failing(nvme(critical_warning=1 << bit))
    assert what in line


@pytest.mark.parametrize("bit", [0, 1, 4, 5])
def test_other_warnings_of_an_nvme_drive_stop_nothing(bit: int) -> None:
    drive = nvme(critical_warning=1 << bit)
    assert failing(drive) == []
    assert len(list(worn(drive))) == 1


def test_an_ata_drive_fails_by_its_overall_assessment() -> None:
    assert failing(ata(passed=False)) == ["its own overall assessment is FAILED"]


@pytest.mark.parametrize(
    ("drive", "line"),
    [
        (nvme(percentage_used=104), "104 % of its rated life used"),
        (nvme(media_errors=2), "2 media errors"),
        (ata(reallocated=16), "16 reallocated sectors"),
        (ata(pending=8), "8 pending sectors"),
        (ata(uncorrectable=1), "1 uncorrectable sectors"),
    ],
)
def test_what_should_be_watched_comes_with_its_count(drive: Drive, line: str) -> None:
    assert list(worn(drive)) == [line]


def test_a_drive_is_called_by_its_device_and_model() -> None:
    assert nvme().title == "/dev/nvme0n1 (SSD 990)"
    assert Drive("sda").title == "/dev/sda"


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "smart_status": JSON,
            "nvme_smart_health_information_log": JSON | st.fixed_dictionaries({"critical_warning": JSON}),
            "ata_smart_attributes": JSON
            | st.fixed_dictionaries({"table": st.lists(st.dictionaries(st.just("id"), JSON))}),
        },
    )
)
def test_no_report_however_odd_ends_in_a_traceback(report: dict[str, Any]) -> None:
    drive = Drive("sda", report)
    assert isinstance(failing(drive), list)
    assert isinstance(list(worn(drive)), list)
