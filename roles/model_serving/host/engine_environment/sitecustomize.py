"""Puts a model's secrets into the environment of its replicas and engines, before any other code of theirs runs.

Python imports a module of this name at its start (https://docs.python.org/3/library/site.html); a model with `secrets`
has this directory on its PYTHONPATH. $RAYRACK_SECRETS maps names to file names. The files are the node unit's systemd
credentials: root's /etc/rayrack/secrets, readable for this unit's processes alone. So no value passes through Serve.
"""

import json
import os
import sys
from pathlib import Path


def load() -> None:
    credentials = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent"))
    for name, file in json.loads(os.environ.get("RAYRACK_SECRETS", "{}")).items():
        try:
            os.environ[name] = (credentials / f"secrets_{file}").read_text().strip()
        except OSError as error:
            # Not fatal here: Ray would start a worker that cannot start again and again, and never say why.
            print(
                f"rayrack: {name} is not set: no secret {file} for this node's unit ({error.strerror}); put it into "
                "/etc/rayrack/secrets on this host and restart the node's unit",
                file=sys.stderr,
            )


load()
