"""The program that looks at a host, on a tree of files in a directory, and its facts."""

import json
import os
import subprocess
from pathlib import Path

import driver_info
import pytest

from roles.nvidia_driver.facts import HostDriver, KeyFingerprints, KnownVersions, StaleInitramfs, UnitStates
from roles.nvidia_driver.info import DriverInfo, Package, PciDevice

KERNEL = os.uname().release
CERTIFICATE = b"0\x82\x03\x10DER of a certificate"


def put(root: Path, path: str, content: str | bytes) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content if isinstance(content, bytes) else content.encode())


def pci(root: Path, address: str, vendor: str, device: str, pci_class: str) -> None:
    for name, value in (("vendor", vendor), ("device", device), ("class", pci_class)):
        put(root, f"sys/bus/pci/devices/{address}/{name}", f"{value}\n")


def look(root: Path) -> DriverInfo:
    return DriverInfo.parse(json.dumps(driver_info.info(root)))


def test_gpus_and_nvswitches_are_found_and_other_devices_are_not(tmp_path: Path) -> None:
    pci(tmp_path, "0000:17:00.0", "0x10de", "0x2330", "0x030200")
    pci(tmp_path, "0000:17:00.1", "0x10de", "0x22ba", "0x040300")  # the audio function of a GPU
    pci(tmp_path, "0000:c1:00.0", "0x10de", "0x22a3", "0x068000")
    pci(tmp_path, "0000:02:00.0", "0x1a03", "0x2000", "0x030000")  # a server's own graphics
    info = look(tmp_path)
    assert info.gpus == (PciDevice("0000:17:00.0", "2330", "0302"),)
    assert info.has_nvswitch


def test_a_machine_without_a_pci_bus_has_no_gpu(tmp_path: Path) -> None:
    info = look(tmp_path)
    assert (info.devices, info.loaded, info.nouveau, info.secure_boot) == ((), None, False, False)


def test_the_loaded_module_and_its_kind(tmp_path: Path) -> None:
    put(tmp_path, "sys/module/nvidia/version", "580.126.20\n")
    put(
        tmp_path,
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.126.20  Release Build\n",
    )
    info = look(tmp_path)
    assert (info.loaded, info.loaded_open) == ("580.126.20", True)
    put(tmp_path, "proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.126.20\n")
    assert look(tmp_path).loaded_open is False


def test_nouveau_and_headers(tmp_path: Path) -> None:
    put(tmp_path, "sys/module/nouveau/refcnt", "1")
    put(tmp_path, f"lib/modules/{KERNEL}/build/Makefile", "")
    info = look(tmp_path)
    assert (info.nouveau, info.headers, info.kernel) == (True, True, KERNEL)


@pytest.mark.parametrize(
    ("secure_boot", "validation_off", "expected"),
    [(b"\1", None, True), (b"\0", None, False), (b"\1", b"\1", False), (b"\1", b"\0", True), (None, None, False)],
)
def test_secure_boot_as_the_firmware_and_shim_tell(
    tmp_path: Path, secure_boot: bytes | None, validation_off: bytes | None, expected: bool
) -> None:
    variables = "sys/firmware/efi/efivars"
    if secure_boot is not None:
        put(tmp_path, f"{variables}/SecureBoot-{driver_info.GLOBAL}", b"\6\0\0\0" + secure_boot)
    if validation_off is not None:
        put(tmp_path, f"{variables}/MokSBStateRT-{driver_info.SHIM}", b"\6\0\0\0" + validation_off)
    assert look(tmp_path).secure_boot is expected


@pytest.mark.parametrize("place", ["sys/firmware/efi/efivars/MokListRT-x", "sys/firmware/efi/mok-variables/MokListRT"])
@pytest.mark.parametrize("key", ["var/lib/dkms/mok.pub", "var/lib/shim-signed/mok/MOK.der"])
def test_dkms_key_counts_when_shims_list_holds_it(tmp_path: Path, place: str, key: str) -> None:
    put(tmp_path, place, b"\6\0\0\0 another certificate")
    put(tmp_path, key, CERTIFICATE)
    assert not look(tmp_path).module_key_enrolled
    put(tmp_path, place, b"\6\0\0\0 another certificate" + CERTIFICATE + b" and more")
    assert look(tmp_path).module_key_enrolled


def test_an_empty_key_file_is_no_enrolled_key(tmp_path: Path) -> None:
    put(tmp_path, "sys/firmware/efi/efivars/MokListRT-x", b"\6\0\0\0 another certificate")
    put(tmp_path, "var/lib/dkms/mok.pub", b"")
    assert not look(tmp_path).module_key_enrolled


def test_what_the_run_file_leaves(tmp_path: Path) -> None:
    put(tmp_path, "usr/bin/nvidia-uninstall", "")
    assert look(tmp_path).run_file == ("/usr/bin/nvidia-uninstall",)


def test_the_drivers_packages_are_told_from_others() -> None:
    listing = "\n".join(
        (
            "hi |nvidia-kernel-open-dkms|580.126.20-1|nvidia-graphics-drivers",
            "ii |libcuda1|580.126.20-1|nvidia-graphics-drivers",
            "ii |firmware-nvidia-gsp|580.126.20-1|nvidia-graphics-drivers",
            "ii |nvidia-fabricmanager|580.126.20-1|fabricmanager",
            "rc |nvidia-smi|535.261.03-1|nvidia-graphics-drivers",
            "iF |nvidia-driver-cuda|580.126.20-1|nvidia-graphics-drivers",
            "ii |nvidia-container-toolkit|1.17.8-1|nvidia-container-toolkit",
            "ii |libnvidia-container1|1.17.8-1|libnvidia-container",
            "ii |linux-modules-nvidia-580-server-open-6.8.0-85-generic|6.8.0-85.85|linux-restricted-modules",
            "ii |linux-image-amd64|6.1.153-1|linux-signed-amd64",
            "ii |linux-headers-amd64|6.1.153-1|linux-signed-amd64",
            "ii |cuda-toolkit-13-0|13.0.2-1|cuda-toolkit-13-0",
            "ii |cron|3.0|cron",
        )
    )
    driver, kernels = driver_info.packages(listing)
    assert driver["nvidia-kernel-open-dkms"] == {"version": "580.126.20-1", "held": True}
    assert set(driver) == {"nvidia-kernel-open-dkms", "libcuda1", "firmware-nvidia-gsp", "nvidia-fabricmanager"}
    assert kernels == ["linux-image-amd64", "linux-headers-amd64"]


def test_repositories_of_both_formats_are_listed_but_for_those_switched_off(tmp_path: Path) -> None:
    put(tmp_path, "etc/apt/sources.list", "# deb http://old /\ndeb http://a/debian bookworm main\n")
    put(tmp_path, "etc/apt/sources.list.d/cuda.list", "deb [signed-by=/k.gpg] https://b/debian12/x86_64/ /\n")
    put(
        tmp_path,
        "etc/apt/sources.list.d/c.sources",
        "Types: deb\nURIs: http://c/1 http://c/2\nSuites: /\n\nEnabled: no\nTypes: deb\nURIs: http://off\n",
    )
    found = [(source.file.rpartition("/")[2], source.uri) for source in look(tmp_path).apt_sources]
    assert found == [
        ("sources.list", "http://a/debian"),
        ("cuda.list", "https://b/debian12/x86_64/"),
        ("c.sources", "http://c/1"),
        ("c.sources", "http://c/2"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [('ID=debian\nVERSION_ID="12"\n', "debian12"), ('ID=ubuntu\nVERSION_ID="24.04"\n# x\n', "ubuntu2404"), ("", "")],
)
def test_the_distribution_is_named_as_nvidia_names_it(text: str, expected: str) -> None:
    assert driver_info.distribution(text) == expected


def test_this_machine_can_be_looked_at() -> None:
    info = look(Path("/"))
    assert info.kernel == KERNEL
    assert {space.path for space in info.free} == {"/usr", "/var", "/boot"}
    assert all(space.free_bytes >= 0 for space in info.free)


def test_the_fact_reads_what_the_program_prints(tmp_path: Path) -> None:
    line = json.dumps({**driver_info.info(tmp_path), "packages": {"libcuda1": {"version": "1-1", "held": True}}})
    assert HostDriver().process(["a warning", line]).packages == {"libcuda1": Package("1-1", held=True)}


def output(command: str) -> list[str]:
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=60, check=True
    ).stdout.splitlines()


def test_the_commands_of_the_facts_run_in_a_real_shell(tmp_path: Path) -> None:
    assert HostDriver().process(output(HostDriver().command())).kernel == KERNEL
    missing = str(tmp_path / "no key")
    assert KeyFingerprints().process(output(KeyFingerprints().command(path=missing))) == ("missing",)
    put(tmp_path, "text", "no key at all")
    assert KeyFingerprints().process(output(KeyFingerprints().command(path=f"{tmp_path}/text"))) == (
        "broken: not an OpenPGP key",
    )
    assert KnownVersions().process(output(KnownVersions().command(names=["no-such-package"]))) == {}
    assert StaleInitramfs().process(output(StaleInitramfs().command(path="/no/such/file"))) == []


def test_a_host_that_cannot_be_looked_at_is_none() -> None:
    assert HostDriver().default() is None


def test_unit_states_are_read_unit_by_unit() -> None:
    lines = ["Id=a.service", "ActiveState=active", "UnitFileState=static", "", "Id=b.service", "ActiveState=failed"]
    assert UnitStates().process([*lines, "UnitFileState="]) == {
        "a.service": ("active", "static"),
        "b.service": ("failed", ""),
    }
