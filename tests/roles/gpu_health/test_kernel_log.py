"""Xid errors in the kernel's log, in all the forms it has."""

import os
from pathlib import Path

import gpu_kernel_log
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

QUICK = settings(max_examples=100, deadline=None, database=None, derandomize=True)
FALLEN = "NVRM: Xid (PCI:0000:4b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


def test_a_record_of_the_kernel_has_address_number_time_and_text() -> None:
    xids, complete = gpu_kernel_log.of_kmsg(f"6,0,0,-;Linux\n4,1,90000000,-;{FALLEN}\n", booted_at=1_800_000_000)
    assert complete
    assert xids == [
        {
            "pci_address": "0000:4b:00",
            "xid": 79,
            "count": 1,
            "first": "2027-01-15T08:01:30Z",
            "last": "2027-01-15T08:01:30Z",
            "text": "pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
        }
    ]


def test_a_journal_line_says_the_same() -> None:
    (xid,) = gpu_kernel_log.of_journal(f"2026-11-21T18:00:00+0000 gpu-03 kernel: {FALLEN}\n")
    assert (xid["pci_address"], xid["xid"], xid["last"]) == ("0000:4b:00", 79, "2026-11-21T18:00:00+0000")


def test_an_older_driver_writes_the_address_without_pci() -> None:
    (xid,) = gpu_kernel_log.of_journal("x NVRM: Xid (0000:03:00): 14, Channel 00000001\n")
    assert (xid["pci_address"], xid["xid"], xid["text"]) == ("0000:03:00", 14, "Channel 00000001")


def test_a_thousand_of_one_kind_are_one_entry_and_a_fatal_one_is_not_hidden_by_another() -> None:
    many = "4,1,1,-;NVRM: Xid (PCI:0000:4b:00): 145, RLW_REMAP Nonfatal XC0\n" * 1000
    fatal = "4,1,2,-;NVRM: Xid (PCI:0000:4b:00): 145, RLW_REMAP Fatal XC0\n"
    xids, _ = gpu_kernel_log.of_kmsg(fatal + many, booted_at=0)
    assert [(xid["count"], " Fatal" in xid["text"]) for xid in xids] == [(1, True), (1000, False)]


def test_a_fatal_xid_of_the_kernels_log_is_not_hidden_by_a_nonfatal_one_of_the_journal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nonfatal = "NVRM: Xid (PCI:0000:4b:00): 145, RLW_REMAP Nonfatal XC0"
    fatal = "NVRM: Xid (PCI:0000:4b:00): 145, RLW_REMAP Fatal XC0"
    monkeypatch.setattr(gpu_kernel_log, "read_kmsg", lambda _: f"4,17,1,-;{nonfatal}\n4,18,2,-;{fatal}\n")
    monkeypatch.setattr(gpu_kernel_log, "read_journal", lambda: f"now gpu-03 kernel: {nonfatal}\n")
    found = gpu_kernel_log.read(Path("/"))
    assert [xid["text"] for xid in found["xids"]] == ["RLW_REMAP Nonfatal XC0", "RLW_REMAP Fatal XC0"]


def test_a_log_that_begins_later_than_boot_is_not_complete() -> None:
    assert gpu_kernel_log.of_kmsg("4,17,1,-;x\n", booted_at=0) == ([], False)
    assert gpu_kernel_log.of_kmsg("", booted_at=0) == ([], False)


def test_this_machines_own_log_is_read_to_its_end_without_waiting() -> None:
    if os.access("/dev/kmsg", os.R_OK):
        assert gpu_kernel_log.read_kmsg(Path("/dev/kmsg"))
    else:
        assert gpu_kernel_log.read(Path("/nonexistent"))["failure"].startswith("/dev/kmsg: ")


def test_a_log_that_may_not_be_read_is_a_reason(tmp_path: Path) -> None:
    assert gpu_kernel_log.read(tmp_path) == {"xids": [], "failure": "/dev/kmsg: No such file or directory"}


@QUICK
@given(st.text())
def test_no_text_makes_it_fail_or_is_more_than_a_short_printable_line(text: str) -> None:
    for log in (text, f"4,1,1,-;NVRM: Xid (PCI:0000:4b:00): 31, {text}"):
        xids, _ = gpu_kernel_log.of_kmsg(log, booted_at=0)
        for xid in (*xids, *gpu_kernel_log.of_journal(log)):
            assert xid["text"].isprintable()
            assert len(xid["text"]) <= gpu_kernel_log.MAX_TEXT


@QUICK
@given(st.integers(0, 9999), st.integers(0, 0xFFFF), st.integers(0, 255), st.integers(0, 31))
def test_every_xid_of_every_address_is_found(number: int, domain: int, bus: int, device: int) -> None:
    address = f"{domain:04x}:{bus:02x}:{device:02x}"
    (xid,) = gpu_kernel_log.of_journal(f"now host kernel: NVRM: Xid (PCI:{address}): {number}, x\n")
    assert (xid["pci_address"], xid["xid"]) == (address, number)
