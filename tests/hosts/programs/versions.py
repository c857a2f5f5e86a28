"""Runs on a host, with the runtime's Python: the versions of the distributions named as arguments, as a JSON object."""

import importlib.metadata
import json
import sys


def version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


print(json.dumps({distribution: version(distribution) for distribution in sys.argv[1:]}))
