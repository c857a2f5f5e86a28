"""Knocks at doors: one request for each line of JSON on standard input, and what came of it as one line of JSON.

A line is {"name": ..., "url": ...}, with "method" and "body" if it is no GET, or {"name": ..., "socket": PATH}. What
comes of it is a status of HTTP, "connected", or the name of the error. Runs on a host: standard library only.
"""

import http.client
import json
import socket
import sys
import urllib.error
import urllib.request
from typing import Any

LIMIT_S = 10


def knock(door: dict[str, Any]) -> int | str:
    try:
        if "socket" in door:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(door["socket"])
            return "connected"
        body = door.get("body")
        request = urllib.request.Request(
            door["url"],
            method=door.get("method", "GET"),
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=LIMIT_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except urllib.error.URLError as error:
        return type(error.reason).__name__
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__


if __name__ == "__main__":
    print(json.dumps({door["name"]: knock(door) for door in map(json.loads, sys.stdin)}))
