"""lab.sh: its hosts behave like hosts, and when they are gone nothing is left of them."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TEST_LAB
from tests.lab.lab import Lab, LabError, Tell, wait_until

pytestmark = pytest.mark.lab

# A lab of its own: these tests cut, crash and remove hosts.
SPARE = Lab(
    Path(f"{TEST_LAB.directory}-2"), f"{TEST_LAB.net.rpartition('.')[0]}.9", f"{TEST_LAB.bridge}x", TEST_LAB.cache
)
HOST_MEMORY = "300M"


def leftovers(lab: Lab) -> list[str]:
    """Whatever on this machine belongs to the lab: processes, mounts, interfaces, cgroups, files."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended meanwhile
        if str(lab.directory) in command:
            found.append(f"process {command}")
    found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(lab.directory) in line]
    found += [f"interface {link.name}" for link in Path("/sys/class/net").iterdir() if lab.bridge in link.name]
    identity = subprocess.run(["cksum"], input=str(lab.directory).encode(), capture_output=True, check=True)
    number = identity.stdout.split()[0].decode()
    found += [f"cgroup {path}" for path in Path("/sys/fs/cgroup").glob(f"**/rayrack-lab-{number}-*")]
    if lab.directory.exists():
        found.append(f"files in {lab.directory}")
    return found


@pytest.fixture(scope="module")
def spare(tell: Tell) -> Iterator[Lab]:
    SPARE.down(keep_cache=True)
    os.environ["LAB_MEM"] = HOST_MEMORY
    try:
        SPARE.up(2, tell)
        yield SPARE
    finally:
        del os.environ["LAB_MEM"]
        SPARE.down(keep_cache=True)


def test_a_host_is_debian_12_with_systemd_as_pid_1(spare: Lab) -> None:
    assert spare.read("h1", "cat /proc/1/comm") == "systemd"
    assert 'VERSION_ID="12"' in spare.read("h1", "cat /etc/os-release")
    wait_until(
        lambda: spare.read("h1", "systemctl is-system-running || true") == "running",
        "h1 has booted without failures",
        30,
    )


def test_a_host_is_blank(spare: Lab) -> None:
    absent = "! command -v gcc && ! command -v haproxy && ! python3 -c 'import ensurepip' 2>/dev/null"
    assert spare.ssh("h1", f"{absent} && ! id rayrack 2>/dev/null", check=False).returncode == 0


def test_hosts_reach_each_other_by_name(spare: Lab) -> None:
    spare.ssh("h1", "ping -q -c 1 -W 5 h2")


def test_the_ordinary_user_has_sudo(spare: Lab) -> None:
    assert spare.ssh("h1", "whoami; sudo -n whoami", user="ops").stdout.split() == ["ops", "root"]


def test_memorymax_of_a_unit_is_enforced(spare: Lab) -> None:
    grab = "python3 -c 'x = bytearray(100 << 20)'"
    assert spare.ssh("h1", f"systemd-run -q --wait -p MemoryMax=50M {grab}", check=False).returncode != 0
    assert spare.ssh("h1", f"systemd-run -q --wait -p MemoryMax=200M {grab}", check=False).returncode == 0


def test_the_memory_of_a_host_is_limited(spare: Lab) -> None:
    assert spare.ssh("h1", "python3 -c 'x = bytearray(400 << 20)'", check=False).returncode != 0
    spare.ssh("h1", "python3 -c 'x = bytearray(150 << 20)'")


def test_block_devices_can_be_neither_made_nor_opened(spare: Lab) -> None:
    number = subprocess.run(["lsblk", "-dno", "MAJ:MIN"], capture_output=True, text=True, check=True).stdout.split()[0]
    major, minor = number.split(":")
    assert spare.ssh("h1", f"mknod /tmp/disk b {major} {minor}", check=False).returncode != 0


def test_a_reboot_starts_the_host_anew(spare: Lab) -> None:
    spare.ssh("h2", "touch /root/stays")
    spare.reboot("h2")
    assert float(spare.read("h2", "cut -d' ' -f1 /proc/uptime")) < 60
    spare.ssh("h2", "test -e /root/stays")


def test_a_host_that_is_cut_off_answers_again_when_healed(spare: Lab) -> None:
    spare.cut("h2")
    assert spare.state("h2") == "no-ssh"
    assert spare.ssh("h1", "ping -q -c 1 -W 1 h2", check=False).returncode != 0
    spare.heal("h2")
    wait_until(lambda: spare.state("h2") == "up", "h2 answers again", 30)
    spare.ssh("h1", "ping -q -c 1 -W 10 h2")


def test_a_host_comes_back_after_a_power_cut_with_its_files(spare: Lab) -> None:
    spare.ssh("h2", "echo written >/root/file; sync")
    spare.crash("h2")
    assert spare.state("h2") == "down"
    spare.start("h2")
    assert spare.read("h2", "cat /root/file") == "written"


def test_a_power_off_stops_the_units_in_order(spare: Lab) -> None:
    spare.ssh("h2", "systemd-run -q -p ExecStop='/usr/bin/touch /root/stopped' sleep infinity")
    spare.stop("h2")
    assert spare.state("h2") == "down"
    spare.start("h2")
    spare.ssh("h2", "test -e /root/stopped")


def test_a_directory_can_be_full_and_empty_again(spare: Lab) -> None:
    spare.full("h1", "/srv/small", 16)
    assert spare.ssh("h1", "echo more >/srv/small/file", check=False).returncode != 0
    spare.unfull("h1", "/srv/small")
    spare.ssh("h1", "echo more >/srv/small/file")


def test_packages_come_through_the_proxy_and_nothing_else_does(spare: Lab) -> None:
    spare.ssh("h1", "apt-get update -qq && cd /tmp && apt-get download -qq hello", timeout_s=180)
    ask = "python3 -c 'import urllib.request as u; u.urlopen(\"http://example.org/\", timeout=10)'"
    proxy = f"http_proxy=http://{spare.net}.1:3128"
    assert "403" in spare.ssh("h1", f"{proxy} {ask}", check=False).stdout
    assert spare.ssh("h1", ask, check=False).returncode != 0


def test_what_one_host_has_fetched_is_not_fetched_again(spare: Lab) -> None:
    packages = (spare.cache or spare.directory / "cache") / "packages"

    def kept_after_download_on(host: str) -> dict[str, int]:
        spare.ssh(host, "apt-get update -qq && cd /tmp && apt-get download -qq hello", timeout_s=180)
        return {path.name: path.stat().st_ino for path in packages.iterdir()}

    assert kept_after_download_on("h1") == kept_after_download_on("h2")


def test_a_bridge_of_another_lab_is_refused_in_one_line(spare: Lab) -> None:
    other = Lab(Path(f"{SPARE.directory}x"), "10.99.99", SPARE.bridge, SPARE.cache)
    refusal = other.command("up", "1", check=False)
    other.down(keep_cache=True)
    assert refusal.returncode == 1
    assert len(refusal.stdout.splitlines()) == 1
    assert f"LAB_DIR={SPARE.directory}" in refusal.stdout
    assert spare.state("h1") == "up"


def test_a_network_in_use_is_refused_in_one_line(spare: Lab) -> None:
    other = Lab(Path(f"{SPARE.directory}x"), SPARE.net, f"{TEST_LAB.bridge}y", SPARE.cache)
    refusal = other.command("up", "1", check=False)
    other.down(keep_cache=True)
    assert refusal.returncode == 1
    assert refusal.stdout.splitlines() == [
        f"lab: this machine has an address in {SPARE.net}.0/24 already; set LAB_NET to another /24"
    ]


def test_a_debian_that_this_machine_cannot_make_is_refused_in_one_line() -> None:
    other = Lab(Path(f"{SPARE.directory}x"), "10.99.99", f"{TEST_LAB.bridge}w", SPARE.cache)
    refusal = other.command("up", "1", check=False, LAB_DEBIAN="nosuch")
    other.down(keep_cache=True)
    assert refusal.returncode == 1
    assert refusal.stdout.splitlines() == [
        "lab: LAB_DEBIAN=nosuch: this machine's debootstrap cannot make it (no /usr/share/debootstrap/scripts/nosuch)"
    ]


def test_an_ordinary_user_is_refused_in_one_line() -> None:
    lab_sh = Path(__file__).parent / "lab.sh"
    refusal = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", "bash", "-s", "up"],
        stdin=lab_sh.open(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (refusal.returncode, refusal.stderr) == (1, "lab: needs root\n")


def test_up_again_changes_nothing(spare: Lab) -> None:
    boots = [spare.read(host, "cat /proc/sys/kernel/random/boot_id") for host in ("h1", "h2")]
    spare.command("up", "2")
    assert [spare.read(host, "cat /proc/sys/kernel/random/boot_id") for host in ("h1", "h2")] == boots


def test_a_host_that_is_unknown_is_one_line() -> None:
    with pytest.raises(LabError, match="no host h7 here"):
        SPARE.stop("h7")


def test_down_leaves_nothing(spare: Lab) -> None:
    assert leftovers(spare)
    spare.down(keep_cache=True)
    assert leftovers(spare) == []
    assert (TEST_LAB.cache or Path()).exists()
