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
import gateway_keys

KEYS = Path("/etc/rayrack/gateway/keys")
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


def client_keys(files: gateway_keys.KeyFiles, now_s: float) -> int:
    """How many keys are valid, but for those of checks."""
    keys = (*files.declared(), *files.made())
    return sum(not (key.has_expired(now_s) or key.name.startswith(gateway_client.KEY_PREFIX)) for key in keys)


def look(
    gateway: gateway_client.Gateway,
    prefixes: Sequence[str],
    api_keys: str = gateway_client.API_KEYS,
    keys: Path = KEYS,
) -> dict[str, Any]:
    """What ``look`` prints."""
    found: dict[str, Any] = {"listed": {}, "problem": "", "keys": 0}
    try:
        found["keys"] = client_keys(gateway_keys.KeyFiles(keys), time.time())
        if prefixes:
            with gateway_client.temporary_key(api_keys) as key:
                found["listed"] = listed(gateway, prefixes, key)
    except (gateway_client.GatewayError, gateway_keys.KeyProblem) as error:
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
