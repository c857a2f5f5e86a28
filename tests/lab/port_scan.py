"""A full TCP port scan, for a host that has Python and nothing else: prints the open ports of each address as JSON.

python3 port_scan.py ADDRESS... [--ports 1-65535]
"""

import argparse
import asyncio
import json

AT_ONCE = 400
# On a bridge of one machine an answer takes a millisecond; a port that gives none within this is closed to us.
ANSWER_S = 3.0


async def is_open(address: str, port: int, free: asyncio.Semaphore) -> bool:
    async with free:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), ANSWER_S)
        except (TimeoutError, OSError):
            return False
        writer.close()
        return True


async def scan(address: str, ports: range) -> list[int]:
    free = asyncio.Semaphore(AT_ONCE)
    found = await asyncio.gather(*(is_open(address, port, free) for port in ports))
    return [port for port, opened in zip(ports, found, strict=True) if opened]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("addresses", nargs="+")
    parser.add_argument("--ports", default="1-65535")
    options = parser.parse_args()
    low, high = map(int, options.ports.split("-"))
    found = {address: asyncio.run(scan(address, range(low, high + 1))) for address in options.addresses}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
