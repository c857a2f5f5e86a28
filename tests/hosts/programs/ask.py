"""Runs on a host: one HTTP request, described by a JSON argument; prints the answer as JSON.

Keys of the argument: ``url``, ``timeout_s``, and optionally ``body`` (posted as JSON) and ``token_file`` (the file of a
bearer token, which never leaves the host). Prints ``{"status": 200, "body": "..."}``; with status 0 nobody answered.
"""

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path


def main() -> None:
    wanted = json.loads(sys.argv[1])
    request = urllib.request.Request(wanted["url"])
    if "body" in wanted:
        request.data = json.dumps(wanted["body"]).encode()
        request.add_header("Content-Type", "application/json")
    if "token_file" in wanted:
        request.add_header("Authorization", "Bearer " + Path(wanted["token_file"]).read_text().strip())
    # No proxy, whatever the host's environment says: every question is for the host itself.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=wanted["timeout_s"]) as answer:
            status, body = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read().decode(errors="replace")
    except OSError as error:
        status, body = 0, str(error)
    print(json.dumps({"status": status, "body": body}))


main()
