"""What an operator types to get in, as the inventory reaches the host."""

import pytest

from roles.verification import first_key

PROGRAM = "/opt/rayrack/bin/api_keys"


def test_the_lines_make_a_key_and_fetch_the_certificate() -> None:
    assert first_key.lines("gpu-01", {}, "https://gpu-01:8000") == (
        f"no API key yet: ssh gpu-01 sudo {PROGRAM} make NAME",
        "then: ssh gpu-01 sudo cat /etc/rayrack/gateway/tls.pem >tls.pem; "
        'curl --cacert tls.pem -H "Authorization: Bearer KEY" https://gpu-01:8000/v1/models',
    )


@pytest.mark.parametrize(
    ("name", "data", "command"),
    [
        ("gpu-01", {}, "ssh gpu-01 sudo"),
        ("@ssh/gpu-01", {}, "ssh gpu-01 sudo"),
        ("gpu-01", {"ssh_hostname": "10.0.0.1"}, "ssh 10.0.0.1 sudo"),
        ("gpu-01", {"ssh_user": "ops", "ssh_port": 2222}, "ssh -p 2222 ops@gpu-01 sudo"),
        ("gpu-01", {"ssh_user": "root", "ssh_key": "~/a key"}, "ssh -i '~/a key' root@gpu-01"),
        ("@local", {}, "sudo"),
    ],
)
def test_a_host_is_reached_as_its_inventory_says(name: str, data: dict[str, object], command: str) -> None:
    assert first_key.as_root_on(name, data) == command
