"""The tables, and their places between markers in docs/figures.md."""

import os
import platform
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from tests.bench.churn import Churn
from tests.bench.deploys import AIM_S, DeployTimes
from tests.bench.rotation import Rotation
from tests.bench.throughput import AIM, Side, Throughput

FIGURES = Path(__file__).parents[2] / "docs" / "figures.md"


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table whose columns line up when it is read as text."""
    cells = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def conditions(versions: dict[str, str]) -> str:
    """When and on what a table was made: figures without this mean nothing."""
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{os.cpu_count()} cores, {memory_gib:.0f} GiB, Linux {platform.release().split('-')[0]}"
    return f"{date.today().isoformat()}; {machine}; {named}."


def deploy_table(times: DeployTimes) -> str:
    return table(
        (f"deploy that changes nothing, {times.hosts} hosts", "seconds"),
        (
            (f"`pyinfra inventories/lab.py deploy/ -y`, median of {len(times.deploys_s)}", f"{times.deploy_s:.2f}"),
            ("lowest and highest", f"{min(times.deploys_s):.2f} to {max(times.deploys_s):.2f}"),
            ("floor: one SSH command per host, median", f"{times.floor_s:.2f}"),
            ("ratio, median of the rounds", f"{times.ratio:.1f}"),
            ("aim", f"under {AIM_S:.0f} s: {'met' if times.deploy_s < AIM_S else 'missed'}"),
        ),
    )


def throughput_table(throughput: Throughput) -> str:
    def row(name: str, side: Side, ratio: str) -> tuple[str, ...]:
        latencies = [f"{side.latency_ms(share):.0f}" for share in (0.5, 0.95, 0.99)]
        return (name, f"{side.requests_per_s:.1f}", *latencies, ratio)

    rows = []
    for comparison in throughput.comparisons:
        met = "met" if comparison.ratio >= AIM else "missed"
        at = f"{comparison.concurrency} at a time"
        rows.append(row(f"plain vLLM, {at}", comparison.plain, "1"))
        rows.append(row(f"rayrack, {at}", comparison.ours, f"{comparison.ratio:.2f} (aim {AIM}: {met})"))
    return table(("completions", "requests/s", "p50 ms", "p95 ms", "p99 ms", "ratio"), rows)


def churn_table(churn: Churn) -> str:
    failed = f"{len(churn.problems)} of {churn.requests}" + (f" ({churn.problems[0][:60]})" if churn.problems else "")
    return table(
        (f"`{churn.model_id}` under load while another is added and removed", "figure"),
        (
            ("failed requests (aim: none)", failed),
            ("longest gap between two answers", f"{churn.longest_gap_s:.2f} s"),
            ("the same in a quiet stretch", f"{churn.quiet_gap_s:.2f} s"),
            ("deploy that adds a model and waits for its first answer", f"{churn.add_s:.0f} s"),
            ("deploy that removes it", f"{churn.remove_s:.0f} s"),
        ),
    )


def rotation_table(rotation: Rotation) -> str:
    rows = [
        (f"`{each.model_id}`", f"{each.away_s:.0f} s", f"{each.failed} of {each.requests}") for each in rotation.models
    ]
    return table(
        ("Ray's token rotated, models in the order of the list", "without an answer", "requests that failed"),
        (*rows, ("the deploy, until all have answered again", f"{rotation.deploy_s:.0f} s", "")),
    )


def replace_part(text: str, part: str, content: str) -> str:
    """``text`` with what stands between the markers of ``part`` replaced.

    Raises:
        ValueError: a marker is missing.
    """
    begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"docs/figures.md needs the lines `{begin}` and `{end}`")
    return f"{before}{begin}\n{content.strip()}\n{end}{after}"


def write(parts: dict[str, str]) -> None:
    """Put each part's text between its markers in docs/figures.md; parts that were not measured stay as they are."""
    text = FIGURES.read_text()
    for part, content in parts.items():
        text = replace_part(text, part, content)
    FIGURES.write_text(text)
