"""A host outside of the inventory, and users without a token inside: what they find, and what they can do.

The stranger finds SSH and the gateway. Everything else of a rack is tried with the real thing: a full port scan, HTTP,
and Ray's own client.
"""

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from tests.conftest import DeployedRack
from tests.lab.lab import ROOT, Lab, LabError, Result, Tell

STRANGER = "h3"
SSH, GATEWAY, SERVE, DASHBOARD, GCS, RAY_CLIENT = 22, 8000, 8100, 8265, 6379, 10001
AGENT, SERVE_METRICS, SERVE_STATS, SERVE_FALLBACK = 6382, 9101, 8404, 8500
RUNTIME = "/opt/rayrack/current/bin/python"
# Ray's client and driver for the stranger, which has no package index: these wheels, unpacked beside each other.
RAY_S_WHEELS = (
    *("ray", "grpcio", "protobuf", "click", "filelock", "jsonschema", "msgpack", "packaging", "pyyaml", "requests"),
    *(
        "attrs",
        "referencing",
        "rpds_py",
        "jsonschema_specifications",
        "typing_extensions",
        "urllib3",
        "idna",
        "certifi",
    ),
    *("charset_normalizer", "aiohttp", "aiosignal", "frozenlist", "multidict", "yarl", "propcache", "aiohappyeyeballs"),
)
STRANGER_S_RAY = "/root/ray"
JOB = {"entrypoint": "touch /tmp/owned"}
EMPTY_CONFIG: dict[str, object] = {"applications": []}


@dataclass(frozen=True)
class Outsider:
    """Somebody on a host, and the way to have them run a program that is sent there."""

    lab: Lab
    host: str
    user: str = "root"

    def run(
        self, program: str, *arguments: str, python: str = "python3", stdin: str = "", limit_s: float = 120
    ) -> Result:
        """A program of tests/lab, or any other text, with the standard input given."""
        quoted = " ".join(f"'{argument}'" for argument in arguments)
        become = "" if self.user == "root" else f"setpriv --reuid={self.user} --regid=nogroup --clear-groups "
        file = f"/tmp/{self.user}-program.py"
        self.send(file, program)
        command = f"cd / && timeout {limit_s:.0f} {become}{python} {file} {quoted}"
        ssh = ["ssh", "-F", str(self.lab.directory / "ssh_config"), self.host, command]
        return subprocess.run(
            ssh,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=limit_s + 30,
            env=self.lab.environment,
            check=False,
        )

    def send(self, path: str, text: str) -> None:
        ssh = ["ssh", "-F", str(self.lab.directory / "ssh_config"), self.host, f"cat >{path} && chmod 644 {path}"]
        done = subprocess.run(ssh, input=text, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise LabError(f"{self.host}: {path} could not be written: {done.stderr}")

    def scan(self, *addresses: str) -> dict[str, list[int]]:
        """The open ports of each address, of all there are."""
        done = self.run(program("port_scan"), *addresses, limit_s=540)
        assert done.returncode == 0, done.stderr
        found: dict[str, list[int]] = json.loads(done.stdout)
        return found

    def knock(self, *doors: Mapping[str, object]) -> dict[str, int | str]:
        done = self.run(program("knock"), stdin="\n".join(map(json.dumps, doors)))
        assert done.returncode == 0, done.stderr
        found: dict[str, int | str] = json.loads(done.stdout)
        return found


def program(name: str) -> str:
    return (ROOT / f"tests/lab/{name}.py").read_text()


@pytest.fixture(scope="module")
def stranger(rack: DeployedRack, tell: Tell) -> Iterator[Outsider]:
    """A third host, blank, on the network of the rack and in no inventory."""
    rack.lab.up(3, tell)
    yield Outsider(rack.lab, STRANGER)
    rack.lab.remove(STRANGER)
    rack.lab.up(2, tell)  # ssh_config without it


@pytest.fixture(scope="module")
def addresses(rack: DeployedRack) -> tuple[str, str]:
    return rack.lab.address(rack.head), rack.lab.address(rack.worker)


def listening(lab: Lab, host: str) -> set[int]:
    """The ports on which something of a host's is to be reached from elsewhere."""
    lines = lab.read(host, "ss -Hltn").splitlines()
    places = [line.split()[3].rpartition(":") for line in lines]
    return {int(port) for address, _, port in places if not address.startswith(("127.", "[::1]", "[::ffff:127."))}


def replicas_of(rack: DeployedRack) -> list[tuple[str, int]]:
    """Address and port of each."""
    found = [
        (rack.lab.address(host), port)
        for host in (rack.head, rack.worker)
        for port in listening(rack.lab, host)
        if 30000 <= port <= 30999
    ]
    assert found, "no replica listens"
    return found


def test_a_stranger_finds_ssh_and_the_gateway_and_nothing_else(
    rack: DeployedRack, stranger: Outsider, addresses: tuple[str, str]
) -> None:
    head, worker = addresses
    assert stranger.scan(head, worker) == {head: [SSH, GATEWAY], worker: [SSH]}
    # Not because there is nothing to be found.
    assert {GCS, SERVE, SERVE_FALLBACK, SERVE_METRICS, SERVE_STATS, AGENT, RAY_CLIENT} <= listening(rack.lab, rack.head)
    assert {AGENT, 6380, 6381} <= listening(rack.lab, rack.worker)


def test_a_host_of_the_rack_reaches_all_that_listens_on_the_other(
    rack: DeployedRack, addresses: tuple[str, str]
) -> None:
    head, worker = addresses
    for host, other, address in ((rack.worker, rack.head, head), (rack.head, rack.worker, worker)):
        before = listening(rack.lab, other)
        # What came or went meanwhile, as workers do, says nothing.
        found = set(Outsider(rack.lab, host).scan(address)[address])
        assert before & listening(rack.lab, other) <= found


def test_a_stranger_s_requests_are_refused_at_the_door(
    rack: DeployedRack, stranger: Outsider, addresses: tuple[str, str]
) -> None:
    head, worker = addresses
    replicas = replicas_of(rack)
    chat = {"model": "tiny-a", "messages": [{"role": "user", "content": "hello"}]}
    doors: list[Mapping[str, object]] = [
        {"name": "job", "url": f"http://{head}:{DASHBOARD}/api/jobs/", "method": "POST", "body": JOB},
        {"name": "agent's job", "url": f"http://{worker}:{AGENT}/api/job_agent/jobs/", "method": "POST", "body": JOB},
        {"name": "dashboard", "url": f"http://{head}:{DASHBOARD}/"},
        {"name": "Serve's REST", "url": f"http://{head}:{DASHBOARD}/api/serve/applications/", "method": "GET"},
        {
            "name": "Serve emptied",
            "url": f"http://{head}:{DASHBOARD}/api/serve/applications/",
            "method": "PUT",
            "body": EMPTY_CONFIG,
        },
        {"name": "Serve", "url": f"http://{head}:{SERVE}/m/tiny-a/v1/chat/completions", "method": "POST", "body": chat},
        {"name": "Serve's fallback", "url": f"http://{head}:{SERVE_FALLBACK}/-/routes"},
        {"name": "Serve's metrics", "url": f"http://{head}:{SERVE_METRICS}/metrics"},
        {"name": "Serve's statistics", "url": f"http://{head}:{SERVE_STATS}/stats"},
        {"name": "Ray's metrics", "url": f"http://{worker}:6385/metrics"},
        *(
            {"name": f"replica {address}:{port}", "url": f"http://{address}:{port}/m/tiny-a/v1/models"}
            for address, port in replicas
        ),
    ]
    found = stranger.knock(*doors)
    assert found == {str(door["name"]): "ConnectionRefusedError" for door in doors}
    assert rack.lab.ssh(rack.head, "ls /tmp/owned", check=False).returncode != 0


CONNECT = """
import os, sys
kind, address = sys.argv[1:]
for variable in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
    os.environ.pop(variable, None)
os.environ.update(RAY_gcs_rpc_server_connect_timeout_s="5", RAY_gcs_server_request_timeout_seconds="10")
import ray
try:
    if kind == "client":
        ray.init(f"ray://{address}")
        ray.get(ray.remote(lambda: os.system("touch /tmp/owned")).remote())
    else:
        from ray._raylet import GcsClient
        nodes = GcsClient(address=address).get_all_node_info(timeout=10)
except BaseException as error:
    print("refused", type(error).__name__, str(error).replace(chr(10), " ")[:600])
else:
    print("LET IN")
"""


@pytest.fixture(scope="module")
def stranger_with_ray(stranger: Outsider) -> Outsider:
    """The stranger's own Ray, of the rack's version."""
    wheels = " ".join(f"/srv/wheelhouse/{name}-*.whl" for name in RAY_S_WHEELS)
    unpack = f"mkdir -p {STRANGER_S_RAY}; for wheel in {wheels}; do python3 -m zipfile -e $wheel {STRANGER_S_RAY}; done"
    stranger.lab.ssh(STRANGER, unpack, timeout_s=180)
    return stranger


@pytest.mark.parametrize(("kind", "port"), [("client", RAY_CLIENT), ("gcs", GCS)])
def test_a_stranger_s_ray_does_not_get_in(
    rack: DeployedRack, stranger_with_ray: Outsider, addresses: tuple[str, str], kind: str, port: int
) -> None:
    python = f"env PYTHONPATH={STRANGER_S_RAY} python3"
    done = stranger_with_ray.run(CONNECT, kind, f"{addresses[0]}:{port}", python=python, limit_s=200)
    assert done.stdout.startswith("refused "), done.stdout + done.stderr
    assert "ModuleNotFoundError" not in done.stdout
    assert rack.lab.ssh(rack.head, "ls /tmp/owned", check=False).returncode != 0


@pytest.fixture(scope="module")
def without_token(rack: DeployedRack) -> Outsider:
    """A user on the head whom its firewall lets pass, and who has no token: the gateway's."""
    return Outsider(rack.lab, rack.head, user="rayrack-gateway")


@pytest.fixture(scope="module")
def nobody(rack: DeployedRack) -> Outsider:
    """An ordinary user on the head itself."""
    return Outsider(rack.lab, rack.head, user="nobody")


def test_without_a_token_ray_s_http_says_no_also_inside(without_token: Outsider, addresses: tuple[str, str]) -> None:
    head, worker = addresses
    dashboard = f"http://127.0.0.1:{DASHBOARD}"
    found = without_token.knock(
        {"name": "job", "url": f"{dashboard}/api/jobs/", "method": "POST", "body": JOB},
        {"name": "agent's job", "url": f"http://{head}:{AGENT}/api/job_agent/jobs/", "method": "POST", "body": JOB},
        {"name": "other agent", "url": f"http://{worker}:{AGENT}/api/job_agent/jobs/", "method": "POST", "body": JOB},
        {"name": "applications", "url": f"{dashboard}/api/serve/applications/"},
        {"name": "emptied", "url": f"{dashboard}/api/serve/applications/", "method": "PUT", "body": EMPTY_CONFIG},
        {"name": "nodes", "url": f"{dashboard}/api/v0/nodes"},
    )
    assert set(found.values()) <= {401, 403}, found


@pytest.mark.parametrize(("kind", "port"), [("client", RAY_CLIENT), ("gcs", GCS)])
def test_without_a_token_ray_s_own_client_is_refused_also_inside(
    rack: DeployedRack, without_token: Outsider, addresses: tuple[str, str], kind: str, port: int
) -> None:
    done = without_token.run(CONNECT, kind, f"{addresses[0]}:{port}", python=f"env HOME=/tmp {RUNTIME}", limit_s=200)
    reason = {"gcs": "refused AuthenticationError RPC error: InvalidAuthToken", "client": "refused ConnectionError"}
    assert done.stdout.startswith(reason[kind]), done.stdout + done.stderr
    assert rack.lab.ssh(rack.head, "ls /tmp/owned", check=False).returncode != 0


def doors_inside(rack: DeployedRack) -> list[Mapping[str, object]]:
    """Where Ray and Serve answer, on every address that a user of the head has for them."""
    head, worker = rack.lab.address(rack.head), rack.lab.address(rack.worker)
    urls = [
        *(
            f"http://{address}:{port}{path}"
            for address in ("127.0.0.1", head)
            for port, path in (
                (SERVE, "/m/tiny-a/health"),
                (SERVE_FALLBACK, "/-/routes"),
                (SERVE_STATS, "/stats"),
                (GCS, "/"),
            )
        ),
        *(f"http://{address}:{AGENT}/api/job_agent/jobs/" for address in (head, worker)),
        *(f"http://{address}:{port}/m/tiny-a/health" for address, port in replicas_of(rack)),
    ]
    return [{"name": url, "url": url} for url in urls]


def test_a_user_of_a_host_is_refused_where_ray_and_serve_answer(rack: DeployedRack, nobody: Outsider) -> None:
    doors = doors_inside(rack)
    assert nobody.knock(*doors) == {str(door["name"]): "ConnectionRefusedError" for door in doors}
    # Not because there is nobody to answer.
    found = Outsider(rack.lab, rack.head).knock(*doors)
    assert "ConnectionRefusedError" not in found.values(), found
    assert found[f"http://127.0.0.1:{SERVE}/m/tiny-a/health"] == 200


def test_a_user_of_a_worker_is_refused_serve_on_the_head(rack: DeployedRack, addresses: tuple[str, str]) -> None:
    door = {"name": "Serve", "url": f"http://{addresses[0]}:{SERVE}/m/tiny-a/health"}
    assert Outsider(rack.lab, rack.worker, user="nobody").knock(door) == {"Serve": "ConnectionRefusedError"}
    assert Outsider(rack.lab, rack.worker).knock(door) == {"Serve": 200}


def test_what_a_user_of_a_host_reaches_asks_for_the_token_or_shows_numbers(
    rack: DeployedRack, nobody: Outsider
) -> None:
    dashboard = f"http://127.0.0.1:{DASHBOARD}"
    found = nobody.knock(
        {"name": "job", "url": f"{dashboard}/api/jobs/", "method": "POST", "body": JOB},
        {"name": "applications", "url": f"{dashboard}/api/serve/applications/"},
        {"name": "emptied", "url": f"{dashboard}/api/serve/applications/", "method": "PUT", "body": EMPTY_CONFIG},
        {"name": "nodes", "url": f"{dashboard}/api/v0/nodes"},
        {"name": "metrics", "url": f"http://127.0.0.1:{SERVE_METRICS}/metrics"},
    )
    assert found.pop("metrics") == 200
    assert set(found.values()) <= {401, 403}, found
    assert rack.lab.ssh(rack.head, "ls /tmp/owned", check=False).returncode != 0


def test_sockets_of_the_rack_are_closed_to_other_users(rack: DeployedRack, nobody: Outsider) -> None:
    paths = sorted(
        {
            line.split()[4]
            for line in rack.lab.read(rack.head, "ss -Hxlp").splitlines()
            if line.split()[4].startswith(("/run/rayrack", "/tmp/ray", "/var/lib/rayrack"))
        }
    )
    assert any("haproxy" in path for path in paths), f"HAProxy's admin socket is not among {paths}"
    assert any("plasma_store" in path or "raylet" in path for path in paths), paths
    found = nobody.knock(*({"name": path, "socket": path} for path in paths))
    assert found == dict.fromkeys(paths, "PermissionError")
