"""The clean-up's metrics as a textfile for Prometheus' node exporter. Standard library only; runs on the host.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text); directory: the node exporter's option
``--collector.textfile.directory``.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

FILE = "rayrack_clean_ray.prom"
HELP = {
    "rayrack_ray_disk_used_ratio": "Used share of the file system of Ray's directory, as Ray counts it.",
    "rayrack_ray_disk_inodes_used_ratio": "Used share of its inodes.",
    "rayrack_ray_disk_warning": "1 when the file system of Ray's directory is fuller than the warning threshold.",
    "rayrack_clean_ray_last_run_timestamp_seconds": "When the clean-up ran last.",
    "rayrack_clean_ray_freed_bytes": "What the last clean-up freed, about.",
    "rayrack_clean_ray_failures": "What the last clean-up could not remove.",
    "rayrack_clean_ray_sessions": "Sessions in Ray's directory after the last clean-up, by state.",
}


def text(directory: str, values: Mapping[str, float], sessions: Mapping[str, int]) -> str:
    """Of every metric its value; sessions are counted by state."""
    return "\n".join(_lines(_escaped(directory), values, sessions)) + "\n"


def _lines(directory: str, values: Mapping[str, float], sessions: Mapping[str, int]) -> Iterator[str]:
    for name, meaning in HELP.items():
        yield f"# HELP {name} {meaning}"
        yield f"# TYPE {name} gauge"
        if name in values:
            yield f'{name}{{directory="{directory}"}} {values[name]!r}'
        else:
            yield from (
                f'{name}{{directory="{directory}",state="{state}"}} {number}' for state, number in sessions.items()
            )


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def write(directory: Path, content: str) -> None:
    """Put the file there whole, so that the node exporter never reads half of it.

    Raises:
        OSError: the directory is not there or cannot be written.
    """
    fresh = directory / f".{FILE}.{os.getpid()}"
    try:
        # "x" opens nothing that somebody has put there before, a link for one.
        with fresh.open("x") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(content)
        fresh.replace(directory / FILE)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
