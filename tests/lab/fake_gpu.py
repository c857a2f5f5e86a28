"""A GPU that a lab host's PCI bus shows, and a kernel whose modules are files: as much as a driver's installation sees.

A guest can neither write /sys nor load modules, so directories are bound over /sys/bus/pci/devices and /sys/module, at
every boot, and `modprobe` is a script.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.lab import Lab

FAKE = "/srv/fake-kernel"
PCI, MODULE, FIRMWARE = "/sys/bus/pci/devices", "/sys/module", "/sys/firmware"
H100 = ("0000:17:00.0", "0x2330", "0x030200")
NVSWITCH = ("0000:c1:00.0", "0x22a3", "0x068000")

# systemd-nspawn may show a guest only a part of /sys, in a tmpfs that is read-only where it is mounted: what is missing
# is made by way of a second, writable mount of the same tmpfs.
_OVER = f"""#!/bin/sh
# over TARGET [SOURCE]: bind the directory SOURCE over TARGET in /sys; without SOURCE take it away again.
set -e
in_sys() {{
  view=$(mktemp -d /run/sys.XXXXXX)
  mount --bind /sys "$view" && mount -o remount,bind,rw "$view"
  (cd "$view" && "$@") || true
  umount "$view" && rmdir "$view"
}}
while grep -q " [^ ]*{FAKE}[^ ]* $1 " /proc/self/mountinfo; do umount "$1"; done
if [ -n "$2" ]; then
  [ -d "$1" ] || in_sys mkdir "${{1#/sys/}}"
  mount --bind "$2" "$1"
elif [ "$(findmnt -n -o FSTYPE /sys)" = tmpfs ]; then
  in_sys rmdir "${{1#/sys/}}" 2>/dev/null  # not one that is in use: systemd-nspawn's own
fi
"""
_MODPROBE = """#!/bin/sh
# Loads what the installed dkms package of the driver would have built.
[ "$1" = nvidia ] || exit 0
fields='${db:Status-Abbrev} ${Version}\\n'
version=$(dpkg-query -W -f "$fields" 'nvidia*kernel*dkms' 2>/dev/null | awk '/^.i/ { print $2 }')
[ -n "$version" ] || { echo 'modprobe: FATAL: Module nvidia not found' >&2; exit 1; }
mkdir -p /sys/module/nvidia
echo "${version%-*}" >/sys/module/nvidia/version
"""
# At a boot: nouveau takes the GPU unless it is blacklisted, and the driver's module is loaded by udev.
_BOOT = f"""#!/bin/sh
{FAKE}/over {PCI} {FAKE}/pci
{FAKE}/over {MODULE} {FAKE}/module
rm -rf /sys/module/nvidia /sys/module/nouveau
grep -rqs '^blacklist nouveau' /etc/modprobe.d || mkdir /sys/module/nouveau
[ -d /sys/module/nouveau ] || /usr/local/sbin/modprobe nvidia || true
"""
_UNIT = f"""[Unit]
Before=basic.target
DefaultDependencies=no
After=local-fs.target
[Service]
Type=oneshot
ExecStart={FAKE}/boot
[Install]
WantedBy=basic.target
"""


def put(lab: Lab, host: str, path: str, text: str, mode: str = "644") -> None:
    """Write a file on a host."""
    lab.ssh(host, f"mkdir -p $(dirname {path}) && cat > {path} <<'END_OF_FILE'\n{text}END_OF_FILE\nchmod {mode} {path}")


def send(lab: Lab, host: str, directory: Path, to: str) -> None:
    """Copy a directory to a host, readable for apt's own user."""
    unpack = f"mkdir -p {to} && tar -C {to} -x && chmod -R a+rX {to}"
    ssh = ["ssh", "-F", str(lab.directory / "ssh_config"), host, unpack]
    with subprocess.Popen(["tar", "-C", str(directory), "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(ssh, stdin=tar.stdout, check=True, timeout=60)


def load(lab: Lab, host: str, version: str) -> None:
    """Let the driver's module be loaded, in this version, until the next boot."""
    put(lab, host, f"{MODULE}/nvidia/version", f"{version}\n")


def plug_in(lab: Lab, host: str, *devices: tuple[str, str, str]) -> None:
    """Let the host's PCI bus show these NVIDIA devices (address, device id, class), now and after a boot."""
    put(lab, host, "/usr/local/sbin/modprobe", _MODPROBE, "755")
    put(lab, host, f"{FAKE}/over", _OVER, "755")
    put(lab, host, f"{FAKE}/boot", _BOOT, "755")
    put(lab, host, "/etc/systemd/system/fake-kernel.service", _UNIT)
    lab.ssh(host, f"rm -rf {FAKE}/pci; mkdir -p {FAKE}/pci {FAKE}/module")
    for address, device, pci_class in devices:
        for name, value in (("vendor", "0x10de"), ("device", device), ("class", pci_class)):
            put(lab, host, f"{FAKE}/pci/{address}/{name}", f"{value}\n")
    over = f"{FAKE}/over {PCI} {FAKE}/pci && {FAKE}/over {MODULE} {FAKE}/module"
    lab.ssh(host, f"systemctl daemon-reload && systemctl enable -q fake-kernel && {over}")


def unplug(lab: Lab, host: str) -> None:
    """Take the devices and every trace of them off the host."""
    files = f"{FAKE} /usr/local/sbin/modprobe /etc/systemd/system/fake-kernel.service"
    undo = f"systemctl disable -q fake-kernel; {FAKE}/over {PCI}; {FAKE}/over {MODULE}"
    lab.ssh(host, f"[ ! -e {FAKE} ] || {{ {undo}; }}; rm -rf {files}; systemctl daemon-reload")


@contextmanager
def firmware(lab: Lab, host: str, variable: str, octal_bytes: str) -> Iterator[None]:
    """Let the firmware of a host with a fake GPU hold this UEFI variable, and no other."""
    place = f"{FAKE}/firmware/efi/efivars"
    make = f"mkdir -p {place} && printf '{octal_bytes}' >{place}/{variable}"
    lab.ssh(host, f"{make} && {FAKE}/over {FIRMWARE} {FAKE}/firmware")
    try:
        yield
    finally:
        lab.ssh(host, f"{FAKE}/over {FIRMWARE}; rm -rf {FAKE}/firmware")
