"""The settings of a host: defaults, limits, and settings that must fit together."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from roles import field_errors
from roles.setting_types import port_range
from roles.settings import RAY_SOCKET_SUFFIX, UNIX_SOCKET_PATH_MAX_BYTES, Settings

PORT_FIELDS = [name for name in Settings.model_fields if name.endswith("_port")]


def problems(**data: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(data)
    return field_errors.lines(caught.value, field_errors.path, Settings.model_fields)


def test_nothing_needs_to_be_set() -> None:
    assert Settings().gateway_port == 8000


def test_defaults_would_be_accepted_as_values() -> None:
    assert Settings.model_validate(Settings().model_dump()) == Settings()


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_all_settings_are_plain_values() -> None:
    plain = (str, int, float, bool, type(None))
    assert [name for name, value in Settings().model_dump().items() if not isinstance(value, plain)] == []


def test_an_unknown_setting_is_refused_with_the_nearest_name() -> None:
    assert problems(gatway_port=1) == ["gatway_port: unknown field; did you mean `gateway_port`?"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("runtime", "rocm"),
        ("gateway_port", 0),
        ("gateway_port", 65536),
        ("gpus", -1),
        ("num_cpus", 0),
        ("object_store_memory_mib", 1),
        ("limit_nofile", 10),
        ("limit_nofile", 10**12),
        ("limit_memlock", "lots"),
        ("limit_memlock", "1" * 23),
        ("limit_memlock", "9999999999G"),
        ("limit_memlock", "64G\n"),
        ("dev_shm_mib", 10**15),
        ("object_store_memory_mib", 10**12),
        ("min_free_gib_weights", float("inf")),
        ("min_free_gib_runtime", float("nan")),
        ("min_free_gib_driver", 1e300),
        ("worker_ports", "20000-20001"),
        ("worker_ports", "20000-20098"),
        ("direct_ingress_ports", "30000-30008"),
        ("node_ip", "fe80::1%eth0"),
        ("node_ip", "0.0.0.0"),
        ("node_ip", "::"),
        ("node_ip", "224.0.0.1"),
        ("gateway_bind", "fe80::1%eth0"),
        ("gateway_bind", "ff02::1"),
        ("gateway_bind", "gpu-01"),
        ("disk_used_max_percent", 101),
        ("min_free_gib_ray", -1),
        ("gateway_maxconn", 0),
        ("gateway_max_body_kib", 10**6),
        ("clean_ray_min_age_minutes", -1),
        ("clean_ray_log_budget_mib", 10),
        ("clean_ray_runaway_log_mib", 100),
        ("clean_ray_warn_percent", 101),
        ("ray_temp_size_gib", 0),
        ("ray_temp_size_gib", 1.5),
        ("ray_temp_size_gib", "lots"),
        ("nvidia_driver_version", "580"),
        ("nvidia_driver_version", "latest"),
        ("nvidia_driver_version", "580.95.05-1"),
        ("nvidia_driver_version", 580.142),
        ("nvidia_kernel_modules", "closed"),
        ("nvidia_driver_source", "run"),
        ("nvidia_driver_repository", "ftp://mirror/"),
        ("nvidia_driver_repository", "http://mirror/a b"),
        ("nvidia_driver_version", "580.95.05\n"),
        ("nvidia_driver_repository", "https://x/y\n"),
        ("nvidia_driver_repository", "https://[fd00::1]/y"),
        ("nvidia_driver_repository", "https:///y"),
        ("no_proxy", 'a"b c'),
        ("no_proxy", "localhost\n"),
        ("no_proxy", "http://a"),
        ("no_proxy", "a//b"),
        ("nvidia_fabric_manager", "sometimes"),
        ("min_free_gib_driver", -1),
        ("gpu_temperature_max_c", 20),
        ("gpu_health_timeout_s", 1),
        ("gpu_ecc_uncorrectable_max", -1),
        ("gpu_memory_held_max_mib", -1),
        ("gpu_mig", "sometimes"),
        ("gpu_health_override", "because"),
        ("gpu_health_override", {"why": "because I say so"}),
    ],
)
def test_absurd_values_are_refused_one_line_each(name: str, value: object) -> None:
    (line,) = problems(**{name: value})
    assert line.startswith(f"{name}: must ")


@pytest.mark.parametrize("name", ["ray_temp_dir", "weights_dir", "cache_dir", "runtime_wheelhouse"])
@pytest.mark.parametrize("path", ["relative", "", "/a b", "/a'b", "/a\nb", "/$HOME", "~/x"])
def test_a_directory_is_an_absolute_path_without_characters_to_quote(name: str, path: str) -> None:
    assert problems(**{name: path})[0].startswith(f"{name}: must match ")


URLS = ["http_proxy", "runtime_index_url", "runtime_cpu_torch_index_url"]


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize(
    "url",
    [
        *("proxy:3128", "", "not a url", "ftp://x/", "http://", "http://:3128", "http://x:port", "http://x:99999"),
        *("http://x/\n", "http://a b/", 'http://u:geheim@x"', 'http://x";\nDPkg::Pre-Invoke {"id";};//', "http://x\\"),
        *("http://u:a'b@x", "http://u:a;b@x", "http://u:a<b>@x", "http://u:a#b@x"),
    ],
)
def test_a_url_is_one_and_a_wrong_one_is_refused_without_showing_it(name: str, url: str) -> None:
    assert problems(**{name: url}) == [
        f"{name}: must be an http or https URL, as http://proxy.example:3128; of a password, write characters like # "
        "and spaces as %23 and %20"
    ]


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize("url", ["http://proxy.example:3128", "https://u:p%40ss@x/simple/", "http://[fd00::1]:3128"])
def test_a_url_may_have_a_password_a_port_and_an_address(name: str, url: str) -> None:
    assert Settings.model_validate({name: url}).model_dump()[name] == url


@pytest.mark.parametrize("names", ["", "*", "localhost,127.0.0.1", ".example.org, 10.0.0.0/8,::1", "*.example.org"])
def test_the_proxys_exceptions_are_names_and_addresses(names: str) -> None:
    assert Settings(no_proxy=names).no_proxy == names


def test_the_clean_up_of_rays_directory_acts_before_it_warns() -> None:
    assert problems(clean_ray_eager_percent=95) == [
        "clean_ray_eager_percent: is 95, above clean_ray_warn_percent (90)",
    ]


@pytest.mark.parametrize("limit", ["infinity", "67108864", "64M", "512G", "1T"])
def test_locked_memory_is_limited_in_bytes_or_in_systemds_units(limit: str) -> None:
    assert Settings(limit_memlock=limit).limit_memlock == limit


def test_locked_memory_may_be_a_number_as_the_command_line_makes_one_of_it() -> None:
    assert Settings.model_validate({"limit_memlock": 67108864}).limit_memlock == "67108864"
    assert problems(limit_memlock=True)[0].startswith("limit_memlock: ")


@pytest.mark.parametrize("address", ["*", "0.0.0.0", "::", "127.0.0.1", "10.0.0.4"])
def test_the_gateway_may_listen_on_one_address_or_on_all(address: str) -> None:
    assert Settings(gateway_bind=address).gateway_bind == address


@pytest.mark.parametrize("address", ["10.0.0.4", "fd00::4", "127.0.0.1"])
def test_a_node_ip_is_an_address(address: str) -> None:
    assert Settings(node_ip=address).node_ip == address


@pytest.mark.parametrize("address", ["gpu-01", "10.0.0", "10.0.0.4/24", ""])
def test_anything_else_as_node_ip_is_refused(address: str) -> None:
    assert problems(node_ip=address)[0].startswith("node_ip: ")


def test_a_path_too_long_for_rays_sockets_is_refused_and_says_by_how_much() -> None:
    longest = "/data/" + "a" * (UNIX_SOCKET_PATH_MAX_BYTES - len(RAY_SOCKET_SUFFIX) - 6)
    assert Settings(ray_temp_dir=longest).ray_temp_dir == longest
    assert problems(ray_temp_dir=longest + "abc") == [
        "ray_temp_dir: too long: Ray's socket paths would have 110 bytes and Linux allows 107; shorten it by 3"
    ]


@pytest.mark.parametrize("name", ["ray_temp_dir", "weights_dir", "cache_dir"])
def test_a_trailing_slash_does_not_matter(name: str) -> None:
    assert Settings.model_validate({name: "/var/ray/"}).model_dump()[name] == "/var/ray"


PATHS = ["ray_temp_dir", "weights_dir", "cache_dir", "ray_temp_image", "runtime_wheelhouse", "metrics_dir"]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("path", ["/tmp/../etc", "/data/./ray", "/data//ray", "//", "//data/ray", "/data/ray//"])
def test_a_path_has_one_spelling(name: str, path: str) -> None:
    assert problems(**{name: path}) == [f'{name}: must be a path without `.`, `..` and `//`, not "{path}"']


@pytest.mark.parametrize("name", ["ray_temp_dir", "weights_dir", "cache_dir"])
@pytest.mark.parametrize(
    "path",
    [
        *("/tmp", "/etc", "/opt", "/data", "/home/", "/etc/rayrack", "/etc/x/y", "/usr/share", "/opt/rayrack"),
        *("/opt/rayrack/bin", "/var/lib", "/var/lib/rayrack", "/var/cache", "/var/run/ray", "/dev/shm/ray", "/root/a"),
    ],
)
def test_a_directory_that_rayrack_takes_over_is_none_of_the_systems(name: str, path: str) -> None:
    (line,) = problems(**{name: path})
    assert line.startswith(f"{name}: must be a directory of its own, ")


@pytest.mark.parametrize(
    "path", ["/data/ray", "/mnt/nvme0/ray", "/srv/ray", "/tmp/ray2", "/var/lib/rayrack/r", "/opt/ray"]
)
def test_a_directory_of_its_own_may_lie_beside_others(path: str) -> None:
    assert Settings(ray_temp_dir=path).ray_temp_dir == path


def test_no_two_directories_are_one_and_none_lies_in_another() -> None:
    assert problems(ray_temp_dir="/data/a", weights_dir="/data/a", cache_dir="/data/a") == [
        "weights_dir: is /data/a, and so is ray_temp_dir; set another",
        "cache_dir: is /data/a, and so is ray_temp_dir; set another",
        "cache_dir: is /data/a, and so is weights_dir; set another",
    ]
    assert problems(weights_dir="/tmp/ray/models") == [
        "weights_dir: /tmp/ray/models lies in ray_temp_dir (/tmp/ray); set another"
    ]
    assert problems(weights_dir="/data/all", ray_temp_dir="/data/all/ray") == [
        "ray_temp_dir: /data/all/ray lies in weights_dir (/data/all); set another"
    ]
    assert Settings(weights_dir="/data/ray-models", ray_temp_dir="/data/ray").ray_temp_dir == "/data/ray"


@pytest.mark.parametrize("path", ["/etc/passwd", "/usr/ray.img", "/dev/sdb", "/opt/rayrack/ray.img"])
def test_rays_image_is_no_file_of_the_systems(path: str) -> None:
    (line,) = problems(ray_temp_image=path)
    assert line.startswith("ray_temp_image: must not lie in /")


def test_two_services_cannot_have_one_port() -> None:
    assert problems(gateway_port=8100) == ["gateway_port: is 8100, and so is serve_port"]


@pytest.mark.parametrize("name", ["worker_ports", "direct_ingress_ports"])
def test_no_port_lies_in_a_range(name: str) -> None:
    assert problems(gateway_port=25000, **{name: "24900-25001"}) == [
        f"gateway_port: 25000 lies within {name} (24900-25001)"
    ]


def test_ranges_do_not_overlap() -> None:
    assert problems(worker_ports="30999-31999") == ["direct_ingress_ports: overlaps worker_ports"]


@pytest.mark.parametrize("value", ["2000", "3000-2000", "2000-2000", "80-90", "60000-70000", "-", "a-b"])
def test_a_range_ascends_between_1024_and_65535(value: str) -> None:
    assert problems(worker_ports=value)[0].startswith("worker_ports: ")


@pytest.mark.parametrize("name", [name for name in PORT_FIELDS if name != "gateway_port"])
def test_only_the_gateway_may_have_a_port_of_roots(name: str) -> None:
    assert problems(**{name: 1023}) == [f"{name}: must be at least 1024, not 1023"]
    assert Settings(gateway_port=443).gateway_port == 443


@pytest.mark.parametrize("name", ["gpus", "gcs_port", "num_cpus", "ray_temp_size_gib", "min_free_gib_ray"])
def test_true_is_no_number(name: str) -> None:
    assert problems(**{name: True}) == [f"{name}: must be a number, not true"]


def test_a_range_is_read_as_two_numbers() -> None:
    assert port_range("20000-20999") == (20000, 20999)


@given(st.permutations(range(8001, 8001 + len(PORT_FIELDS))))
@settings(max_examples=20, deadline=None, database=None, derandomize=True)
def test_any_distinct_ports_are_accepted(ports: list[int]) -> None:
    chosen = dict(zip(PORT_FIELDS, ports, strict=True))
    assert Settings.model_validate(chosen).model_dump(include=set(PORT_FIELDS)) == chosen


def test_ray_s_image_does_not_lie_in_itself_nor_where_the_service_user_writes() -> None:
    assert problems(ray_temp_dir="/data/ray", ray_temp_image="/data/ray/ray.img") == [
        "ray_temp_image: must not lie in ray_temp_dir (/data/ray)"
    ]
    assert problems(ray_temp_image="/var/lib/rayrack/models/ray.img") == [
        "ray_temp_image: must not lie in weights_dir (/var/lib/rayrack/models)"
    ]
    assert problems(ray_temp_image="/var/lib/rayrack/ray.img") == [
        "ray_temp_image: must not lie in /var/lib/rayrack, where not only root can write"
    ]
    assert Settings(ray_temp_dir="/data/ray", ray_temp_image="/data/ray.img").ray_temp_image == "/data/ray.img"


def test_memory_that_no_gpu_of_that_name_has_is_refused_with_what_it_has() -> None:
    assert problems(gpus=1, gpu_model="H100", gpu_memory_gib=40) == [
        "gpu_memory_gib: no H100 has 40 GiB, it has 79.6 or 93.6 GiB: set one of these, or correct gpu_model"
    ]
    assert Settings(gpus=1, gpu_model="H100", gpu_memory_gib=80).gpu_memory_gib == 80
