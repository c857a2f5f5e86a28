#!/usr/bin/python3 -EsB
"""What clients of this host's gateway see:

    check_gateway look URL PREFIX... | wait URL SECONDS "SLUG PREFIX MODEL_ID"...

``look`` prints one JSON object: ``listed``, the model ids of each route prefix; ``problem``, why the gateway could not
be asked; ``keys``, how many API keys clients have. ``wait`` returns when every named model is listed, and exits 1 with
one line for each that is not after SECONDS. Both ask over TLS, with a key that they make and take back.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gateway_client

KEY_FILES = tuple(Path(f"/etc/rayrack/gateway/keys/{name}.map") for name in ("declared", "made"))
POLL_S = 1.0


def listed(gateway: gateway_client.Gateway, prefixes: Sequence[str], key: str) -> dict[str, list[str]]:
    """The model ids that the gateway lists on each route prefix.

    Raises:
        GatewayError: it cannot be asked, or does not answer with a list.
    """
    return {prefix: _ids(gateway.ask(f"{prefix}/models", key=key), f"{prefix}/models") for prefix in prefixes}


def _ids(answer: gateway_client.Answer, path: str) -> list[str]:
    try:
        if answer.status == 200:
            return [model["id"] for model in answer.json()["data"]]
    except (ValueError, LookupError, TypeError):
        pass
    said = answer.body[:200].decode(errors="replace")
    raise gateway_client.GatewayError(f"{path} answers {answer.status}: {said}")


def client_keys(files: Sequence[Path], now_s: float) -> int:
    """How many keys are valid, but for those of checks. A line is `HASH NAME|EXPIRES|...`, in unix seconds."""
    keys = 0
    for file in files:
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue  # no gateway has been here yet
        for line in lines:
            name, _, rest = line.partition(" ")[2].partition("|")
            expires = rest.partition("|")[0]
            if name and not name.startswith(gateway_client.KEY_PREFIX):
                keys += expires.isdecimal() and int(expires) > now_s
    return keys


def look(
    gateway: gateway_client.Gateway,
    prefixes: Sequence[str],
    api_keys: str = gateway_client.API_KEYS,
    key_files: Sequence[Path] = KEY_FILES,
) -> dict[str, Any]:
    """What ``look`` prints."""
    found: dict[str, Any] = {"listed": {}, "problem": "", "keys": client_keys(key_files, time.time())}
    if not prefixes:
        return found
    try:
        with gateway_client.temporary_key(api_keys) as key:
            found["listed"] = listed(gateway, prefixes, key)
    except gateway_client.GatewayError as error:
        found["problem"] = str(error)
    return found


def wait(
    gateway: gateway_client.Gateway,
    limit_s: float,
    models: Sequence[tuple[str, str, str]],
    api_keys: str = gateway_client.API_KEYS,
) -> list[str]:
    """Wait until all ``models`` (slug, route prefix, model id) are listed; a line for each that is not."""
    deadline = time.monotonic() + limit_s
    prefixes = sorted({prefix for _, prefix, _ in models})
    with gateway_client.temporary_key(api_keys) as key:
        while True:
            found: dict[str, list[str]] = {}
            problem = ""
            try:
                found = listed(gateway, prefixes, key)
            except gateway_client.GatewayError as error:
                problem = f" ({error})"
            missing = [(slug, prefix) for slug, prefix, model_id in models if model_id not in found.get(prefix, ())]
            if not missing or time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
    return [
        f"{slug}: not listed by the gateway on {prefix} within {limit_s:g} s{problem}: "
        "see journalctl -u rayrack-gateway"
        for slug, prefix in missing
    ]


def main(arguments: Sequence[str]) -> int:
    verb, url, *rest = arguments
    gateway = gateway_client.Gateway(url)
    if verb == "look":
        print(json.dumps(look(gateway, rest)))
        return 0
    models = []
    for each in rest[1:]:
        slug, prefix, model_id = each.split(" ")
        models.append((slug, prefix, model_id))
    try:
        problems = wait(gateway, float(rest[0]), models)
    except gateway_client.GatewayError as error:  # no key could be made
        problems = [str(error)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
