import json
from dataclasses import replace
from typing import Any

import pytest

from roles.model_serving.model import Model
from roles.preflight.info import HostInfo, Listener
from roles.preflight.rules import paths_of_interest, problems, warnings
from roles.settings import Settings
from roles.storage.drives import Drive
from roles.storage.ray_disk import FoundMount
from roles.storage.rules import GIB, Disk

SETTINGS = Settings()


def disk(path: str, *, free_gib: int = 500, **fields: Any) -> Disk:
    values: dict[str, Any] = {
        "kind": "absent",
        "owner": None,
        "device": 1,
        "mount_point": "/",
        "fs_type": "ext4",
        "read_only": False,
        "size_bytes": 1000 * GIB,
        "used_bytes": 0,
        "free_bytes": free_gib * GIB,
        "inodes": 0,
        "inodes_free": 0,
    }
    return Disk(path, **{**values, **fields})


GOOD = HostInfo(
    os_id="debian",
    os_version="12",
    os_name="Debian GNU/Linux 12 (bookworm)",
    machine="x86_64",
    python_version="3.11.2",
    systemd_version=252,
    cpus=64,
    memory_mib=500_000,
    disks=tuple(disk(path) for path in paths_of_interest(SETTINGS)),
)


def found(info: HostInfo, *, is_head: bool = True, digest: str | None = None, **settings: Any) -> list[str]:
    return problems("gpu-01", info, Settings(**settings), is_head=is_head, runtime_digest=digest)


def listening(port: int, address: str = "0.0.0.0", unit: str | None = "nginx.service") -> HostInfo:
    return replace(GOOD, listeners=(Listener(address, port, 123, "nginx", unit),))


def test_a_good_host_has_no_problems() -> None:
    assert found(GOOD) == []


SERVING = replace(GOOD, models=("a", "b"))


def listed(*names: str) -> list[Model]:
    return [Model(model_id=name) for name in names]


def test_a_list_that_keeps_none_of_several_models_is_refused_unless_that_is_meant() -> None:
    another = listed("c", "d", "e")
    assert problems("gpu-01", SERVING, SETTINGS, is_head=True, models=another) == [
        "gpu-01: the model list keeps none of the models that are set up there (a, b): "
        "if all of them are to go, say so with --data remove_all=true"
    ]
    assert problems("gpu-01", SERVING, Settings(remove_all=True), is_head=True, models=another) == []


def test_a_list_may_remove_some_models_or_replace_the_only_one() -> None:
    assert problems("gpu-01", SERVING, SETTINGS, is_head=True, models=listed("b", "c")) == []
    assert problems("gpu-01", replace(GOOD, models=("a",)), SETTINGS, is_head=True, models=listed("c")) == []


@pytest.mark.parametrize(("os_id", "version"), [("debian", "12"), ("debian", "13"), ("ubuntu", "24.04")])
def test_supported_distributions(os_id: str, version: str) -> None:
    assert found(replace(GOOD, os_id=os_id, os_version=version)) == []


def test_ubuntu_22_04_is_refused_in_one_line_that_says_why() -> None:
    info = replace(
        GOOD,
        os_id="ubuntu",
        os_version="22.04",
        os_name="Ubuntu 22.04.5 LTS",
        python_version="3.10.12",
        systemd_version=249,
    )
    assert found(info) == [
        "gpu-01: Ubuntu 22.04.5 LTS is not supported: its Python 3.10, systemd 249 and HAProxy 2.4 are too old; "
        "use Debian 12, Debian 13 or Ubuntu 24.04"
    ]


@pytest.mark.parametrize(("os_id", "version"), [("debian", ""), ("fedora", "43"), ("linuxmint", "22"), ("", "")])
def test_other_distributions_are_refused(os_id: str, version: str) -> None:
    (line,) = found(replace(GOOD, os_id=os_id, os_version=version, os_name="Something Else"))
    assert line == "gpu-01: Something Else is not supported; use Debian 12, Debian 13 or Ubuntu 24.04"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"machine": "riscv64"}, "machine type riscv64 is not supported"),
        ({"python_version": "3.10.1"}, "/usr/bin/python3 is 3.10.1, must be 3.11 to 3.13"),
        ({"python_version": "3.14.0"}, "/usr/bin/python3 is 3.14.0, must be 3.11 to 3.13"),
        ({"systemd_version": None}, "is not run by systemd"),
        ({"systemd_version": 249}, "systemd is 249, must be 252 or newer"),
    ],
)
def test_a_system_that_cannot_run_the_services_is_refused(change: dict[str, Any], line: str) -> None:
    (problem,) = found(replace(GOOD, **change))
    assert problem.startswith(f"gpu-01: {line}")


def test_a_host_that_could_not_be_looked_at_is_the_one_problem() -> None:
    assert found(HostInfo(failure="has no python3")) == ["gpu-01: has no python3"]


def test_a_port_of_another_program_is_refused_with_its_name_and_unit() -> None:
    assert found(listening(8000)) == [
        "gpu-01: port 8000 (gateway_port) is taken by nginx (pid 123, nginx.service); "
        "stop it or set another gateway_port"
    ]


def test_a_port_held_by_nobody_one_can_see_is_refused_too() -> None:
    (line,) = found(replace(GOOD, listeners=(Listener("0.0.0.0", 8000),)))
    assert "is taken by a program that could not be found" in line


@pytest.mark.parametrize("unit", ["rayrack-head.service", "rayrack-gateway.service"])
def test_a_port_of_our_own_services_is_no_problem(unit: str) -> None:
    assert found(listening(8000, unit=unit)) == []


def test_a_worker_needs_no_port_of_the_head() -> None:
    assert found(listening(8000), is_head=False) == []
    assert found(listening(6379), is_head=False) == []
    assert len(found(listening(6380), is_head=False)) == 1


def test_another_port_can_be_set() -> None:
    assert found(listening(8000), gateway_port=8080) == []
    assert len(found(listening(8080), gateway_port=8080)) == 1


@pytest.mark.parametrize(
    ("address", "taken"), [("127.0.0.1", True), ("0.0.0.0", True), ("::", True), ("10.0.0.5", False), ("::1", False)]
)
def test_the_dashboard_is_in_the_way_of_loopback_and_of_all_addresses_only(address: str, taken: bool) -> None:
    assert bool(found(listening(8265, address))) == taken


def test_a_gateway_bound_to_one_address_leaves_the_port_of_others_alone() -> None:
    assert found(listening(8000, "10.0.0.5"), gateway_bind="10.0.0.9") == []
    assert len(found(listening(8000, "10.0.0.9"), gateway_bind="10.0.0.9")) == 1


def test_a_range_is_refused_for_each_port_taken_in_it() -> None:
    (line,) = found(listening(20500), is_head=False)
    assert "port 20500 (worker_ports) is taken by nginx" in line


def test_one_program_on_ipv4_and_ipv6_is_one_problem() -> None:
    both = tuple(Listener(address, 8000, 123, "nginx") for address in ("0.0.0.0", "::"))
    assert len(found(replace(GOOD, listeners=both))) == 1


def test_rays_directory_of_somebody_else_is_refused() -> None:
    disks = tuple(
        replace(each, kind="directory", owner="mallory") if each.path == "/tmp/ray" else each for each in GOOD.disks
    )
    (line,) = found(replace(GOOD, disks=disks))
    assert line.startswith("gpu-01: /tmp/ray: belongs to mallory")


def test_no_space_is_refused() -> None:
    disks = tuple(replace(each, free_bytes=40 * GIB) for each in GOOD.disks)
    (line,) = found(replace(GOOD, disks=disks))
    assert line.startswith("gpu-01: /: 40.0 GiB free, 50 GiB needed")


def test_an_installed_runtime_needs_no_room_again() -> None:
    disks = tuple(replace(each, free_bytes=40 * GIB) for each in GOOD.disks)
    info = replace(GOOD, disks=disks, runtimes=("0123456789abcdef",))
    assert found(info, digest="0123456789abcdef") == []
    assert len(found(info, digest="fedcba9876543210")) == 1


def test_all_problems_of_a_host_come_together() -> None:
    disks = tuple(replace(each, free_bytes=GIB) for each in GOOD.disks)
    info = replace(listening(8000), disks=disks)
    assert len(found(info)) == 2


def test_a_host_is_read_from_the_programs_json() -> None:
    line = json.dumps(
        {
            "os_id": "debian",
            "os_version": "12",
            "os_name": "Debian",
            "machine": "x86_64",
            "python_version": "3.11.2",
            "systemd_version": None,
            "cpus": 2,
            "memory_mib": 1000,
            "listeners": [{"address": "::", "port": 22, "pid": 1, "process": "sshd", "unit": "ssh.service"}],
            "runtimes": ["abc"],
            "models": ["a"],
            "weights": {"models--org--a": 7},
            "caches": ["a"],
            "ray_mounts": [{"unit": "tmp-ray.mount", "image": "/ray.img", "mount_point": "/tmp/ray"}],
            "loop_devices": False,
        }
    )
    info = HostInfo.parse(line, [disk("/")])
    assert info.listeners == (Listener("::", 22, 1, "sshd", "ssh.service"),)
    assert (info.runtimes, info.models, info.disks) == (("abc",), ("a",), (disk("/"),))
    assert (info.weights, info.caches, info.loop_devices) == ({"models--org--a": 7}, ("a",), False)
    assert info.ray_mounts == (FoundMount("tmp-ray.mount", "/ray.img", "/tmp/ray"),)


# The weights of the models


def weights_problems(*models: Model, free_gib: int, info: HostInfo = GOOD, **settings: Any) -> list[str]:
    disks = tuple(replace(each, free_bytes=free_gib * GIB) for each in GOOD.disks)
    values = {"min_free_gib_ray": 0, "min_free_gib_runtime": 0, "cache_gib_per_model": 0, "gpus": 4, **settings}
    return problems("gpu-01", replace(info, disks=disks), Settings(**values), is_head=True, models=models)


BIG = Model(model_id="Qwen/Qwen2.5-32B-Instruct", tensor_parallel_size=2, weights_gib=61)
SMALL = Model(model_id="small", model_source="Qwen/Qwen3-0.6B", weights_gib=1.5)


def test_a_host_must_have_room_for_the_weights_of_every_model_that_could_run_on_it() -> None:
    assert weights_problems(BIG, SMALL, free_gib=40) == [
        "gpu-01: /: 40.0 GiB free, 62.5 GiB needed (weights_gib: Qwen/Qwen2.5-32B-Instruct 61, "
        "Qwen/Qwen3-0.6B 1.5); free space or set another weights_dir"
    ]
    assert weights_problems(BIG, SMALL, free_gib=900) == []


def test_a_host_without_the_gpus_for_a_model_needs_no_room_for_it() -> None:
    assert weights_problems(BIG, free_gib=40, gpus=1) == []
    other = BIG.model_copy(update={"accelerator_type": "H100"})
    assert weights_problems(other, free_gib=40, gpu_model="L4") == []


def test_weights_that_are_on_the_host_need_no_room_and_half_of_them_half() -> None:
    cache = "models--Qwen--Qwen2.5-32B-Instruct"
    assert weights_problems(BIG, free_gib=25, info=replace(GOOD, weights={cache: 60 * GIB})) == []
    (line,) = weights_problems(BIG, free_gib=25, info=replace(GOOD, weights={cache: 30 * GIB}))
    assert "31 GiB needed" in line


def test_a_path_on_the_host_needs_no_room() -> None:
    assert weights_problems(Model(model_id="a", model_source="/srv/a", weights_gib=500), free_gib=40) == []


def test_small_weights_are_covered_by_the_room_that_is_always_asked_for() -> None:
    (line,) = weights_problems(SMALL, free_gib=10)
    assert "20 GiB needed (min_free_gib_weights)" in line


def test_each_model_without_a_compile_cache_on_the_host_needs_room_for_one() -> None:
    room = {"min_free_gib_weights": 0, "cache_gib_per_model": 3}
    on_disk = "models--Qwen--Qwen2.5-32B-Instruct"
    there = replace(GOOD, weights={on_disk: 61 * GIB})
    other = SMALL.model_copy(update={"weights_gib": 0.0})
    assert weights_problems(BIG, other, free_gib=5, info=there, **room) == [
        "gpu-01: /: 5.0 GiB free, 6 GiB needed (cache_gib_per_model: qwen-qwen2.5-32b-instruct 3, small 3); "
        "free space or set another cache_dir"
    ]
    compiled = replace(there, caches=("small",))
    assert weights_problems(BIG, other, free_gib=5, info=compiled, **room) == []


def test_caches_and_weights_on_one_disk_are_added_up() -> None:
    (line,) = weights_problems(BIG, free_gib=62, cache_gib_per_model=3)
    assert (
        "64 GiB needed (cache_gib_per_model: qwen-qwen2.5-32b-instruct 3 for /var/cache/rayrack, "
        "weights_gib: Qwen/Qwen2.5-32B-Instruct 61 for /var/lib/rayrack/models)" in line
    )
    assert line.endswith("; free space or use another disk")


def test_weights_that_would_fill_the_disk_are_refused_though_there_is_room() -> None:
    disks = tuple(replace(each, used_bytes=30 * GIB, free_bytes=70 * GIB) for each in GOOD.disks)
    settings = Settings(min_free_gib_ray=0, min_free_gib_runtime=0, gpus=4)
    (line,) = problems("gpu-01", replace(GOOD, disks=disks), settings, is_head=True, models=[BIG])
    assert "would be 91 % full with 61 GiB for /var/lib/rayrack/models, 90 % allowed" in line


def test_weights_of_unknown_size_are_a_warning_that_says_what_to_do() -> None:
    unknown = Model(model_id="org/unknown")
    (*_, line) = warnings("gpu-01", GOOD, Settings(gpus=1), models=[unknown])
    assert line == (
        "gpu-01: /var/lib/rayrack/models: cannot tell whether there is room for the weights of org/unknown; "
        "give their weights_gib in the model list"
    )
    there = replace(GOOD, weights={"models--org--unknown": GIB})
    assert not any("weights_gib" in line for line in warnings("gpu-01", there, Settings(gpus=1), models=[unknown]))


# Ray's own file system

OWN = {"ray_temp_size_gib": 50, "ray_temp_dir": "/var/lib/rayrack/ray"}
IMAGE = "/var/lib/rayrack-ray.img"


def own(
    *, free_gib: int = 500, ray: dict[str, Any] | None = None, image: dict[str, Any] | None = None, **fields: Any
) -> HostInfo:
    """A host where all but Ray's own file system is on one disk, with ``free_gib`` there."""
    paths = paths_of_interest(Settings(**OWN))
    disks = {path: disk(path, free_gib=free_gib) for path in paths}
    disks[OWN["ray_temp_dir"]] = disk(OWN["ray_temp_dir"], **(ray or {}))
    disks[IMAGE] = disk(IMAGE, free_gib=free_gib, **(image or {}))
    return replace(GOOD, disks=tuple(disks.values()), **fields)


MOUNTED = {"kind": "directory", "owner": "rayrack", "device": 7, "mount_point": OWN["ray_temp_dir"], "image": IMAGE}
MADE = {"kind": "file", "owner": "root", "file_bytes": 50 * GIB}
UNIT = FoundMount("var-lib-rayrack-ray.mount", IMAGE, "/var/lib/rayrack/ray")


def test_the_image_needs_room_on_the_disk_that_holds_it() -> None:
    (line,) = found(own(free_gib=60), **OWN)
    assert "ray_temp_size_gib 50 for /var/lib/rayrack-ray.img" in line
    assert found(own(), **OWN) == []


def test_an_image_that_is_there_needs_no_room_again_and_a_larger_one_the_difference() -> None:
    made = own(free_gib=41, ray=MOUNTED, image=MADE, ray_mounts=(UNIT,))
    assert found(made, **OWN) == []
    (line,) = found(made, **{**OWN, "ray_temp_size_gib": 60})
    assert "ray_temp_size_gib 10 for" in line


def test_a_full_file_system_of_ray_s_own_stops_no_run_so_that_it_can_grow() -> None:
    full = own(ray={**MOUNTED, "used_bytes": 99 * GIB, "free_gib": 1}, image=MADE, ray_mounts=(UNIT,))
    assert found(full, **{**OWN, "ray_temp_size_gib": 60}) == []
    (line,) = warnings("gpu-01", full, Settings(**OWN))
    assert line.startswith("gpu-01: /var/lib/rayrack/ray: 99 % full; ")


def test_ray_s_directory_on_the_root_file_system_is_a_warning() -> None:
    (line,) = warnings("gpu-01", GOOD, SETTINGS)
    assert line == (
        "gpu-01: /tmp/ray: on the root file system, which Ray's logs and spilled objects can fill; "
        "set ray_temp_size_gib, or another ray_temp_dir"
    )
    assert warnings("gpu-01", own(), Settings(**OWN)) == []


# The drives

BROKEN = Drive("nvme0n1", {"nvme_smart_health_information_log": {"critical_warning": 4}})


def test_a_failing_drive_stops_the_run_unless_it_is_told_to_go_on() -> None:
    info = replace(GOOD, disks=tuple(replace(each, drives=(BROKEN,)) for each in GOOD.disks))
    (line,) = found(info)
    assert line.startswith("gpu-01: /dev/nvme0n1, under /opt/rayrack/runtime, /tmp/ray, ")
    assert line.endswith("replace the drive, or go on with --data ignore_drive_health=true")
    assert found(info, ignore_drive_health=True) == []
    assert any("/dev/nvme0n1" in each for each in warnings("gpu-01", info, Settings(ignore_drive_health=True)))


def test_a_host_that_is_refused_for_its_system_is_not_warned_of() -> None:
    assert warnings("gpu-01", replace(GOOD, os_id="fedora"), SETTINGS) == []
