"""Ray's own view of the rack, its ports, and who its processes are."""

from functools import cache
from typing import Any

from tests.hosts.questions import ask_ray, node_ip
from tests.hosts.reach import CheckedHost, CheckedRack, expect

# Units that do not run as the service user. The gateway is kept apart from what models run; root looks at the table of
# the firewall every few seconds.
USERS = {
    "rayrack-gateway.service": "rayrack-gateway",
    "rayrack-firewall.service": "root",
    "rayrack-firewall-keep.service": "root",
}


@cache
def nodes_alive(head: CheckedHost) -> set[str]:
    """The addresses of the nodes that Ray takes for alive."""
    nodes = ask_ray(head, "/api/v0/nodes")["data"]["result"]["result"]
    return {node["node_ip"] for node in nodes if node["state"] == "ALIVE"}


@cache
def processes_of(host: CheckedHost) -> list[dict[str, Any]]:
    """The processes of rayrack's units, and those of Ray and vLLM wherever they are."""
    return list(host.run_program("processes"))


def test_host_is_a_living_node_of_ray(host: CheckedHost, head: CheckedHost) -> None:
    address = node_ip(host)
    unit = "rayrack-head" if host.rack_host.is_head else "rayrack-worker"
    expect(
        address in nodes_alive(head),
        f"{host}: Ray's head {head} does not count {address} among its living nodes",
        f"on {host}: systemctl status {unit}; journalctl -u {unit} -n 50",
    )


def test_ray_has_no_node_outside_the_inventory(head: CheckedHost, checked: CheckedRack) -> None:
    strangers = nodes_alive(head) - {node_ip(host) for host in checked.hosts}
    expect(
        not strangers,
        f"{head}: nodes of Ray's that are no host of the inventory: {', '.join(sorted(strangers))}",
        "on each of them: systemctl disable --now rayrack.target; or add it to the inventory",
    )


def test_what_belongs_on_loopback_listens_there_only(head: CheckedHost, checked: CheckedRack) -> None:
    settings = head.rack_host.settings
    ports = {"the dashboard": settings.dashboard_port}
    # Replicas listen where Serve does, so with workers it must be an address that the head can reach.
    if len(checked.hosts) == 1:
        ports["Serve"] = settings.serve_port
    for name, port in ports.items():
        sockets = head.run("ss -Hltn sport = :%s", str(port)).stdout.splitlines()
        addresses = {line.split()[3].rpartition(":")[0] for line in sockets}
        expect(
            bool(addresses),
            f"{head}: nothing listens on {name}'s port {port}",
            f"on {head}: systemctl status rayrack-head",
        )
        open_to_others = addresses - {"127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"}
        expect(
            not open_to_others,
            f"{head}: {name}'s port {port} is open on {', '.join(sorted(open_to_others))}, must be loopback only",
            f"{head.deploy_again}, then on {head}: systemctl restart rayrack-head",
        )


def service_user(process: dict[str, Any]) -> str:
    """Who a process must run as."""
    return USERS.get(process["unit"], "rayrack")


def test_processes_of_ray_run_as_the_service_user(host: CheckedHost) -> None:
    processes = processes_of(host)
    expect(bool(processes), f"{host}: no process of Ray's runs", f"on {host}: systemctl status 'rayrack-*'")
    wrong = [process for process in processes if process["user"] != service_user(process)]
    told = "; ".join(f"{process['pid']} ({process['user']}): {process['command']}" for process in wrong[:3])
    expect(
        not wrong,
        f"{host}: {len(wrong)} processes do not run as their service user: {told}",
        f"{host.deploy_again}, then on {host}: systemctl restart rayrack.target",
    )


def test_processes_of_ray_belong_to_a_unit(host: CheckedHost) -> None:
    stray = [process for process in processes_of(host) if not process["unit"]]
    told = "; ".join(f"{process['pid']}: {process['command']}" for process in stray[:3])
    expect(
        not stray,
        f"{host}: {len(stray)} processes of Ray or vLLM outside of rayrack's units: {told}",
        f"on {host}: kill {' '.join(str(process['pid']) for process in stray)}",
    )
