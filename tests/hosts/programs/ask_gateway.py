"""Runs on a host with a gateway: one request as a client makes it, described by a JSON argument; prints the answer.

Keys of the argument: ``url``, ``path``, ``timeout_s``, and optionally ``body`` (posted as JSON) and ``key``: ``made``,
one that is made for this request and revoked after it, so that it never leaves the host; ``wrong``; or none. Prints
``{"status": 200, "body": "..."}``; with status 0 nobody answered, or not with the certificate that clients trust.
"""

import contextlib
import json
import sys

sys.path.insert(0, "/opt/rayrack/lib")
import gateway_client

WRONG_KEY = "rr-" + 43 * "A"


def main() -> None:
    wanted = json.loads(sys.argv[1])
    gateway = gateway_client.Gateway(wanted["url"])
    no_key = contextlib.nullcontext({"wrong": WRONG_KEY}.get(wanted.get("key")))
    try:
        with gateway_client.temporary_key() if wanted.get("key") == "made" else no_key as key:
            answer = gateway.ask(wanted["path"], key=key, body=wanted.get("body"), timeout_s=wanted["timeout_s"])
        status, body = answer.status, answer.body.decode(errors="replace")
    except gateway_client.GatewayError as error:
        status, body = 0, str(error)
    print(json.dumps({"status": status, "body": body}))


main()
