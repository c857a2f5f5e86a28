"""Runs on a host: prints every process of a rayrack unit and every process of Ray or vLLM, as a JSON list.

Each has ``pid``, ``user``, ``unit`` (empty when it is not in a unit of rayrack's) and ``command``.
"""

import json
import pwd
import re
from pathlib import Path

UNIT = re.compile(r"/(rayrack-[^/]+\.service)")
# How Ray and vLLM title their processes: `ray::ServeReplica:...`, `VLLM::EngineCore`, `.../raylet/raylet ...`.
OF_RAY = re.compile(r"^(ray::|VLLM::)|/ray/core/src/ray/(raylet/raylet|gcs/gcs_server)\b")


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def main() -> None:
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            cgroups = (directory / "cgroup").read_text()
            uid = directory.stat().st_uid
        except OSError:  # it ended while we looked
            continue
        unit = UNIT.search(cgroups)
        if unit or OF_RAY.search(command):
            name = unit.group(1) if unit else ""
            found.append({"pid": int(directory.name), "user": user_name(uid), "unit": name, "command": command[:120]})
    print(json.dumps(found))


main()
