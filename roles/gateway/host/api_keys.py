#!/usr/bin/python3 -EsB
"""The gateway's API keys on this host: api_keys make NAME | list | revoke NAME | apply | check. Run by root.

``make`` prints the key, once and alone on stdout: it is kept as a hash. ``revoke`` takes a key away: the next request
that brings it is refused, on connections that are open, too; a request in progress ends as it would. Both work at once
in every process of the gateway, without a reload. ``apply`` makes the processes hold what the files say; ``check``
exits 1 when they do not. Keys that a deploy declares are changed by a deploy alone.

Exit status: 0 done; 1 not done, or ``check`` found a difference; 2 wrong arguments.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway_keys import MODEL_ID, NAME, NEVER, NO_LIMIT, REQUESTS_PER_MINUTE_MAX, Key, KeyFiles, KeyProblem, moment
from gateway_processes import NotRunningError, Processes

DIRECTORY = "/etc/rayrack/gateway/keys"
MASTER = "/run/rayrack-gateway/master.sock"
NOT_RUNNING = "the gateway does not run: this takes effect when it starts"
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class Gateway:
    """Where keys stand, and who holds them."""

    files: KeyFiles
    processes: Processes

    def apply(self) -> str:
        """Have every process hold what the files say; what became of it."""
        try:
            count = self.processes.hold(self.files.maps())
        except NotRunningError:
            return NOT_RUNNING
        return f"{count} {'process holds' if count == 1 else 'processes hold'} these keys"


def make(gateway: Gateway, name: str, expires: int, requests_per_minute: int, models: Sequence[str]) -> None:
    files = gateway.files
    with files.locked():
        if any(key.name == name for key in files.declared()):
            raise KeyProblem(f"{name}: the deploy declares a key of this name (keys_file); take another name")
        made = files.made()
        if any(key.name == name and not key.has_expired(time.time()) for key in made):
            raise KeyProblem(f"{name}: there is a key of this name; revoke it first, or take another name")
        secret, key = Key.made(name, expires, requests_per_minute, models)
        files.write_made([*(other for other in made if other.name != name), key])
        # Before the processes are told: whatever becomes of that, the key can never be shown again.
        print(secret, flush=True)
        _say_if_down(gateway.apply())


def revoke(gateway: Gateway, name: str) -> None:
    files = gateway.files
    with files.locked():
        made = files.made()
        is_declared = any(key.name == name for key in files.declared())
        left = [key for key in made if key.name != name]
        if len(left) == len(made):
            if is_declared:
                raise KeyProblem(f"{name}: the deploy declares this key; take it out of keys_file and deploy")
            raise KeyProblem(f"{name}: there is no key of this name; `api_keys list` shows them all")
        files.write_made(left)
        _say_if_down(gateway.apply())
        if is_declared:
            _say(f"{name}: the key of this name that the deploy declares goes on")


def check(gateway: Gateway) -> int:
    with gateway.files.locked():
        try:
            found = gateway.processes.differences(gateway.files.maps())
        except NotRunningError:
            _say(NOT_RUNNING)
            return 0
    for what in found:
        print(what)
    return 1 if found else 0


def show(gateway: Gateway, *, as_json: bool) -> None:
    with gateway.files.locked():
        keys = [("deploy", key) for key in gateway.files.declared()] + [("host", key) for key in gateway.files.made()]
    keys.sort(key=lambda each: (each[1].name, each[0]))
    if as_json:
        print(json.dumps([_described(source, key) for source, key in keys], indent=2))
        return
    rows = [("NAME", "FROM", "EXPIRES", "PER MINUTE", "MODELS")]
    for source, key in keys:
        expires = f"{_time(key.expires)}{' (expired)' if key.has_expired(time.time()) else ''}"
        per_minute = "no limit" if key.requests_per_minute == NO_LIMIT else str(key.requests_per_minute)
        rows.append((key.name, source, expires, per_minute, ", ".join(key.models) or "all"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _described(source: str, key: Key) -> dict[str, object]:
    return {
        "name": key.name,
        "from": source,
        "expires": None if key.expires == NEVER else _time(key.expires),
        "expired": key.has_expired(time.time()),
        "requests_per_minute": None if key.requests_per_minute == NO_LIMIT else key.requests_per_minute,
        "models": list(key.models) or None,
    }


def _time(seconds: int) -> str:
    return "never" if seconds == NEVER else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _say_if_down(outcome: str) -> None:
    if outcome == NOT_RUNNING:
        _say(outcome)


# --- arguments --------------------------------------------------------------------------------------------------


def key_name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("a name is 1 to 63 of a-z, 0-9, `.`, `_`, `-`, and begins with a-z or 0-9")
    return text


def expiry_date(text: str) -> int:
    try:
        return _in_future(moment(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def expiry_in(text: str) -> int:
    match = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", text)
    if match is None:
        raise argparse.ArgumentTypeError("must be a number and s, m, h or d, as 10m or 90d")
    return _in_future(int(time.time()) + int(match[1]) * _UNITS_S[match[2]])


def _in_future(seconds: int) -> int:
    if not time.time() < seconds < NEVER:
        raise argparse.ArgumentTypeError("must lie in the future, and before the year 2286")
    return seconds


def model_ids(text: str) -> list[str]:
    ids = list(dict.fromkeys(text.split(",")))
    if wrong := [each for each in ids if not MODEL_ID.fullmatch(each)]:
        raise argparse.ArgumentTypeError(f"must be model ids with commas between them; {wrong[0]!r} is none")
    return ids


def per_minute(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,7}", text) or not 1 <= int(text) <= REQUESTS_PER_MINUTE_MAX:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {REQUESTS_PER_MINUTE_MAX}")
    return int(text)


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="api_keys", description="The gateway's API keys on this host.")
    parser.add_argument("--directory", type=Path, default=Path(DIRECTORY), help=argparse.SUPPRESS)
    parser.add_argument("--master", type=Path, default=Path(MASTER), help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", required=True)
    of_make = commands.add_parser("make", help="make a key and print it, once")
    of_make.add_argument("name", type=key_name)
    until = of_make.add_mutually_exclusive_group()
    until.add_argument("--expires", type=expiry_date, default=NEVER, metavar="DAY", help="as 2027-01-31 (its end, UTC)")
    until.add_argument("--expires-in", type=expiry_in, dest="expires", metavar="TIME", help="as 90d, 12h or 10m")
    of_make.add_argument("--models", type=model_ids, default=[], metavar="ID,ID", help="models it may use; all")
    of_make.add_argument("--requests-per-minute", type=per_minute, default=NO_LIMIT, metavar="N", help="no limit")
    commands.add_parser("list", help="all keys").add_argument("--json", action="store_true")
    commands.add_parser("revoke", help="take a key away").add_argument("name", type=key_name)
    commands.add_parser("apply", help="make every process of the gateway hold what the files say")
    commands.add_parser("check", help="exit 1 when a process holds other keys than the files")
    return parser.parse_args(words)


def run(options: argparse.Namespace) -> int:
    gateway = Gateway(KeyFiles(options.directory), Processes(options.master))
    match options.command:
        case "make":
            make(gateway, options.name, options.expires, options.requests_per_minute, options.models)
        case "revoke":
            revoke(gateway, options.name)
        case "list":
            show(gateway, as_json=options.json)
        case "apply":
            with gateway.files.locked():
                _say(gateway.apply())
        case "check":
            return check(gateway)
    return 0


def main(words: Sequence[str]) -> int:
    try:
        return run(arguments(words))
    except KeyProblem as problem:
        _say(f"api_keys: {problem}")
    except FileNotFoundError as error:
        _say(f"api_keys: {error.filename} is not there: deploy the gateway first")
    except PermissionError as error:
        _say(f"api_keys: {error.filename or MASTER}: {error.strerror}: run it as root")
    except OSError as error:
        _say(f"api_keys: {error}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
