"""The directories that grow, on real hosts."""

from tests.conftest import DeployedRack


def test_rays_directory_outlives_the_ageing_of_what_is_around_it(rack: DeployedRack) -> None:
    ray = rack.lab.read(rack.worker, "awk '$1 == \"x\" { print $2 }' /etc/tmpfiles.d/rayrack-storage.conf")
    parent = ray.rpartition("/")[0]
    rule = "/etc/tmpfiles.d/aged.conf"
    try:
        rack.lab.ssh(rack.worker, f"touch {ray}/idle {parent}/idle; echo 'e {parent} - - - 1s' > {rule}; sleep 2")
        rack.lab.ssh(rack.worker, f"systemd-tmpfiles --clean {rule} /etc/tmpfiles.d/rayrack-storage.conf")
        found = rack.lab.read(rack.worker, f"ls -d {parent}/idle {ray}/idle 2>/dev/null || true")
    finally:
        rack.lab.ssh(rack.worker, f"rm -f {rule} {ray}/idle {parent}/idle")
    assert found.split() == [f"{ray}/idle"]
