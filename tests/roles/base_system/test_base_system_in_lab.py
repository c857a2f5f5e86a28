"""The base system on real hosts."""

import pytest

from tests.conftest import DeployedRack

HOST_ONLY = "deploy/10_host.py"


def test_a_deploy_puts_right_what_somebody_has_changed(rack: DeployedRack) -> None:
    rack.lab.ssh(rack.worker, "chmod 777 /etc/rayrack/secrets; rm -rf /run/rayrack/haproxy")
    rack.lab.pyinfra(HOST_ONLY, "-y", "--limit", rack.worker)
    stat = rack.lab.read(rack.worker, "stat -c '%a %U' /etc/rayrack/secrets /run/rayrack/haproxy")
    assert stat.splitlines() == ["700 root", "700 rayrack"]


def test_the_service_user_cannot_log_in(rack: DeployedRack) -> None:
    result = rack.lab.ssh(rack.worker, "su - rayrack -c true", check=False)
    assert result.returncode != 0
    assert "not available" in result.stdout


@pytest.mark.long
def test_apt_has_no_proxy_of_ours_unless_one_is_set(rack: DeployedRack) -> None:
    proxy = "apt-config dump | grep -c '^Acquire::http::Proxy::unproxied.example'"
    assert rack.lab.ssh(rack.worker, proxy, check=False).stdout.strip() == "0"
    setting = ("--data", "http_proxy=http://10.0.0.1:3128", "--data", "no_proxy=unproxied.example")
    try:
        rack.lab.pyinfra(HOST_ONLY, "-y", "--limit", rack.worker, *setting)
        assert rack.lab.read(rack.worker, proxy) == "1"
    finally:
        rack.lab.pyinfra(HOST_ONLY, "-y", "--limit", rack.worker)
    assert rack.lab.ssh(rack.worker, proxy, check=False).stdout.strip() == "0"


@pytest.mark.long
def test_shared_memory_gets_its_size_now_and_at_boot_and_loses_the_setting_again(rack: DeployedRack) -> None:
    def mib() -> str:
        return rack.lab.read(rack.worker, "df --output=size -BM /dev/shm | tail -1 | tr -d ' M'")

    before = mib()
    try:
        rack.lab.pyinfra(HOST_ONLY, "-y", "--limit", rack.worker, "--data", "dev_shm_mib=1500")
        assert mib() == "1500"
        assert "size=1500m" in rack.lab.read(rack.worker, "grep /dev/shm /etc/fstab")
    finally:
        rack.lab.pyinfra(HOST_ONLY, "-y", "--limit", rack.worker)
        rack.lab.ssh(rack.worker, f"mount -o remount,size={before}m /dev/shm")
    assert rack.lab.ssh(rack.worker, "grep /dev/shm /etc/fstab", check=False).stdout == ""
