"""The program that looks at a host, run as the fact runs it."""

import os
import socket
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api.util import get_template

from roles.preflight.host import host_info
from roles.storage.ray_disk import RayDisk

# As the kernel writes it: 127.0.0.1:8000 listening, and a connection that is none of our business.
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:1F40 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1
"""


def test_only_listening_sockets_are_read_from_the_kernels_table() -> None:
    assert list(host_info.listening(TCP)) == [("4711", "127.0.0.1", 8000)]


@given(st.ip_addresses(v=4))
def test_every_ipv4_address_is_read(address: object) -> None:
    packed = socket.inet_pton(socket.AF_INET, str(address))
    assert host_info.address(packed[::-1].hex().upper()) == str(address)


@given(st.ip_addresses(v=6))
def test_every_ipv6_address_is_read(address: object) -> None:
    packed = socket.inet_pton(socket.AF_INET6, str(address))
    text = "".join(packed[at : at + 4][::-1].hex().upper() for at in range(0, 16, 4))
    assert host_info.address(text) == socket.inet_ntop(socket.AF_INET6, packed).removeprefix("::ffff:")


def test_a_listening_socket_is_found_with_its_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (found,) = [entry for entry in host_info.listeners() if entry["port"] == port]
    assert (found["address"], found["pid"]) == ("127.0.0.1", os.getpid())
    assert found["process"] == Path("/proc/self/comm").read_text().strip()


def test_an_ipv6_listener_on_all_addresses_is_found() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        assert "::" in [entry["address"] for entry in host_info.listeners() if entry["port"] == port]


def test_models_that_are_set_up_are_told_by_their_slugs(tmp_path: Path) -> None:
    for name in ("tiny-a.env", "tiny-a.override.env", "qwen-qwen2.5-32b.env", "notes.txt"):
        (tmp_path / name).touch()
    assert host_info.models(str(tmp_path)) == ["qwen-qwen2.5-32b", "tiny-a"]
    assert host_info.models(str(tmp_path / "absent")) == []


def test_models_that_have_compiled_here_are_told_by_their_directories(tmp_path: Path) -> None:
    (tmp_path / "tiny-a").mkdir()
    assert host_info.names(str(tmp_path)) == ["tiny-a"]
    assert host_info.names(str(tmp_path / "absent")) == []


def test_the_unit_of_a_process_is_the_innermost_service() -> None:
    assert host_info.unit_of("0::/system.slice/rayrack-head.service\n") == "rayrack-head.service"
    assert host_info.unit_of("0::/user.slice/user-0.slice/user@0.service/app.slice/x.scope\n") == "x.scope"
    model = "/system.slice/system-rayrack\\x2dmodel.slice/rayrack-model@tiny.service"
    assert (
        host_info.unit_of(f"12:pids:/elsewhere.service\n1:name=systemd:{model}\n0::/\n") == "rayrack-model@tiny.service"
    )
    assert host_info.unit_of("0::/\n") is None


def test_os_release_is_read_with_and_without_quotes() -> None:
    text = '# comment\nID=ubuntu\nVERSION_ID="24.04"\nPRETTY_NAME="Ubuntu 24.04.1 LTS"\n\n'
    assert host_info.os_release(text) == {
        "ID": "ubuntu",
        "VERSION_ID": "24.04",
        "PRETTY_NAME": "Ubuntu 24.04.1 LTS",
    }


def test_it_uses_the_standard_library_only() -> None:
    source = Path(host_info.__file__).read_text()
    imported = {line.split()[1].split(".")[0] for line in source.splitlines() if line.startswith(("import ", "from "))}
    assert imported <= sys.stdlib_module_names


def test_weights_are_counted_by_what_they_take_on_the_disk(tmp_path: Path) -> None:
    blobs = tmp_path / "models--org--a/blobs"
    blobs.mkdir(parents=True)
    (blobs / "1").write_bytes(bytes(100_000))
    (blobs / "2.incomplete").write_bytes(bytes(50_000))
    (tmp_path / "models--org--broken").mkdir()
    (tmp_path / "datasets--org--b/blobs").mkdir(parents=True)
    found = host_info.weights(str(tmp_path))
    assert list(found) == ["models--org--a"]
    assert 150_000 <= found["models--org--a"] < 200_000


def test_no_weights_are_no_weights(tmp_path: Path) -> None:
    assert host_info.weights(str(tmp_path / "hub")) == {}


def test_mounts_that_rayrack_has_made_are_told_from_others(tmp_path: Path) -> None:
    disk = RayDisk("/var/lib/rayrack-ray.img", 50, "/tmp/ray")
    text = get_template("templates/storage/etc/systemd/system/ray_temp_dir.mount.j2").render(disk=disk)
    (tmp_path / disk.unit).write_text(text)
    (tmp_path / "data.mount").write_text("[Mount]\nWhat=/dev/sdb1\nWhere=/data\n")
    (tmp_path / "rayrack-head.service").write_text(text)
    assert host_info.ray_mounts(str(tmp_path)) == [
        {"unit": "tmp-ray.mount", "image": disk.image, "mount_point": disk.mount_point}
    ]
