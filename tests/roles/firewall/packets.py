"""A host with rules, a host of its rack, a Prometheus and a stranger, each in a network namespace: who reaches what?

And of the users of the host itself: who reaches what, on it and on the others?

Run it in a namespace of its own, which is the host's: `unshare -n python3 packets.py RULES PORT...`. It prints JSON.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

# By name: the host's address on the wire between the two, and the other end's.
WIRES = {
    "peer": ("10.0.1.1", "10.0.1.2", "fd01::1", "fd01::2"),
    "prometheus": ("10.0.2.1", "10.0.2.2", "fd02::1", "fd02::2"),
    "stranger": ("10.0.3.1", "10.0.3.2", "fd03::1", "fd03::2"),
}
# The users of the host: one that no rule names, and the two that stand in for rayrack's, which no test machine has.
USERS = {"nobody": "nobody", "rayrack": "daemon", "rayrack-gateway": "bin"}
# Where they go.
OWN_PLACES = {
    "loopback 4": "127.0.0.1",
    "loopback 6": "::1",
    "own address 4": WIRES["stranger"][0],
    "own address 6": WIRES["stranger"][2],
    "peer 4": WIRES["peer"][1],
    "peer 6": WIRES["peer"][3],
    "stranger 4": WIRES["stranger"][1],
    "stranger 6": WIRES["stranger"][3],
}
# Somebody's connection that is there before the rules are.
OLD_PORT, UDP_PORT, STRANGER_S_PORT = 8100, 40001, 5000

TRY = """
import json, socket, sys
address, *ports = sys.argv[1:]
found = {"open": [], "refused": [], "silent": []}
for port in map(int, ports):
    try:
        socket.create_connection((address, port), timeout=3).close()
        found["open"].append(port)
    except ConnectionRefusedError:
        found["refused"].append(port)
    except OSError:
        found["silent"].append(port)
print(json.dumps(found))
"""
HOLD = f"""
import socket, sys
held = socket.create_connection((sys.argv[1], {OLD_PORT}), timeout=3)
print("connected", flush=True)
sys.stdin.readline()
held.sendall(b"x")
held.settimeout(3)
print(held.recv(1).decode(), flush=True)
"""
# With all that it needs loaded before, as an ordinary user may not enter every directory that Python lies in.
BECOME = """
import encodings.idna, json, os, pwd, socket, sys
user = pwd.getpwnam(sys.argv.pop(1))
os.setgroups([])
os.setresgid(*[user.pw_gid] * 3)
os.setresuid(*[user.pw_uid] * 3)
"""
LISTEN = """
import socket, sys
servers = [socket.create_server(("", int(port)), family=socket.AF_INET6, dualstack_ipv6=True) for port in sys.argv[1:]]
print("listening", flush=True)
sys.stdin.read()
"""
ECHO = f"""
import socket
server = socket.create_server(("", {STRANGER_S_PORT}))
print("listening", flush=True)
server.accept()[0].sendall(b"answer")
"""
DATAGRAM = (
    f"import socket, sys; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', (sys.argv[1], {UDP_PORT}))"
)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def network_of(pid: object) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def wire(name: str) -> int:
    """Another host beside this one; the pid of a process that lives there."""
    here, there, here_6, there_6 = WIRES[name]
    own = network_of("self")
    process = subprocess.Popen(["unshare", "-n", "sleep", "600"])
    while network_of(process.pid) == own:
        time.sleep(0.01)
    ip("link", "add", f"to-{name}"[:15], "type", "veth", "peer", "name", "up0", "netns", str(process.pid))
    ends = (((), f"to-{name}"[:15], here, here_6), (("nsenter", "-t", str(process.pid), "-n"), "up0", there, there_6))
    for enter, device, address, address_6 in ends:
        for command in (
            ["address", "add", f"{address}/24", "dev", device],
            ["-6", "address", "add", f"{address_6}/64", "dev", device, "nodad"],
            ["link", "set", device, "up"],
            ["link", "set", "lo", "up"],
        ):
            subprocess.run([*enter, "ip", *command], check=True)
    return process.pid


def inside(pid: int, program: str, *arguments: str) -> "subprocess.Popen[str]":
    command = ["nsenter", "-t", str(pid), "-n", sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def here(program: str, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def sent_on(process: "subprocess.Popen[str]") -> str:
    """What comes back over a connection that was held until now."""
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()
    return line_of(process)


def tried_by_users(others: dict[str, int], ports: list[str]) -> dict[str, object]:
    """By user and place, of the host's own users."""
    for name in ("peer", "stranger"):
        assert line_of(inside(others[name], LISTEN, *ports)) == "listening"
    found: dict[str, object] = {}
    for name, user in USERS.items():
        for place, address in OWN_PLACES.items():
            tried, _ = here(BECOME + TRY, user, address, *ports).communicate(timeout=120)
            found[f"{name}: {place}"] = json.loads(tried)
    return found


def serve(port: int) -> None:
    """Listen on IPv4 and IPv6, and give back what comes."""
    server = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)

    def answer() -> None:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=echo, args=(connection,), daemon=True).start()

    def echo(connection: socket.socket) -> None:
        while data := connection.recv(16):
            connection.sendall(data)

    threading.Thread(target=answer, daemon=True).start()


def main(rules: str, ports: list[str]) -> None:
    ip("link", "set", "lo", "up")
    others = {name: wire(name) for name in WIRES}
    for port in {*map(int, ports), OLD_PORT}:
        serve(port)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("", UDP_PORT))
    udp.settimeout(3)
    held = inside(others["stranger"], HOLD, WIRES["stranger"][0])
    held_by_a_user = here(BECOME + HOLD, USERS["nobody"], "127.0.0.1")
    assert [line_of(held), line_of(held_by_a_user)] == ["connected", "connected"]

    subprocess.run(["nft", "-f", rules], check=True)

    found: dict[str, object] = {"what was open": sent_on(held), "what a user had open": sent_on(held_by_a_user)}
    assert line_of(inside(others["stranger"], ECHO)) == "listening"
    with socket.create_connection((WIRES["stranger"][1], STRANGER_S_PORT), timeout=3) as outgoing:
        found["answer to an outgoing connection"] = outgoing.recv(16).decode()
    inside(others["stranger"], DATAGRAM, WIRES["stranger"][0]).wait()
    found["datagram"] = udp.recv(16).decode()
    for name, pid in others.items():
        for version, address in (("4", WIRES[name][0]), ("6", WIRES[name][2])):
            tried, _ = inside(pid, TRY, address, *ports).communicate(timeout=120)
            found[f"{name} {version}"] = json.loads(tried)
    own = subprocess.run(
        [sys.executable, "-c", TRY, WIRES["stranger"][0], *ports], capture_output=True, text=True, check=True
    )
    found["the host itself"] = json.loads(own.stdout)
    found |= tried_by_users(others, ports)
    found["chain output"] = subprocess.run(
        ["nft", "list", "chain", "inet", "rayrack", "output"], capture_output=True, text=True, check=True
    ).stdout
    found["table"] = subprocess.run(
        ["nft", "list", "chain", "inet", "rayrack", "input"], capture_output=True, text=True, check=True
    ).stdout
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    found["tables"] = tables.split("\n")[:-1]
    print(json.dumps(found))
    for pid in others.values():
        os.kill(pid, 9)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
