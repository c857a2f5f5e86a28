"""A full TCP port scan, for a host that has Python and nothing else: prints the open ports of each address as JSON.

python3 port_scan.py ADDRESS... [--ports 1-65535]
"""

import argparse
import json
import selectors
import socket
import time

AT_ONCE = 400
# On a bridge of one machine an answer takes a millisecond; a port that gives none within this is closed to us.
ANSWER_S = 5.0


def scan(address: str, ports: range) -> list[int]:
    found = []
    waiting = selectors.DefaultSelector()
    # By connection: its port, and when it is given up; in the order that they were begun.
    begun: dict[socket.socket, tuple[int, float]] = {}
    left = iter(ports)
    port = next(left, None)
    while port is not None or begun:
        while port is not None and len(begun) < AT_ONCE:
            connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            connection.setblocking(False)
            connection.connect_ex((address, port))
            waiting.register(connection, selectors.EVENT_WRITE)
            begun[connection] = port, time.monotonic() + ANSWER_S
            port = next(left, None)
        ended = {key.fd for key, _ in waiting.select(timeout=0.5)}
        for connection, (its_port, until) in list(begun.items()):
            if connection.fileno() in ended:
                if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    found.append(its_port)
            elif time.monotonic() < until:
                continue
            waiting.unregister(connection)
            connection.close()
            del begun[connection]
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("addresses", nargs="+")
    parser.add_argument("--ports", default="1-65535")
    options = parser.parse_args()
    low, high = map(int, options.ports.split("-"))
    print(json.dumps({address: scan(address, range(low, high + 1)) for address in options.addresses}))


if __name__ == "__main__":
    main()
