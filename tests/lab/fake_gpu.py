"""A GPU that a lab host's PCI bus shows, and a kernel whose modules are files: as much as a driver's installation sees.

A guest can neither write /sys nor load modules, so directories are bound over /sys/bus/pci/devices and /sys/module, at
every boot, and `modprobe` is a script.
"""

from tests.lab.lab import Lab

FAKE = "/srv/fake-kernel"
H100 = ("0000:17:00.0", "0x2330", "0x030200")
NVSWITCH = ("0000:c1:00.0", "0x22a3", "0x068000")

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
mountpoint -q /sys/module || {{ mount --bind {FAKE}/pci /sys/bus/pci/devices; mount --bind {FAKE}/module /sys/module; }}
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


def plug_in(lab: Lab, host: str, *devices: tuple[str, str, str]) -> None:
    """Let the host's PCI bus show these NVIDIA devices (address, device id, class), now and after a boot."""
    put(lab, host, "/usr/local/sbin/modprobe", _MODPROBE, "755")
    put(lab, host, f"{FAKE}/boot", _BOOT, "755")
    put(lab, host, "/etc/systemd/system/fake-kernel.service", _UNIT)
    lab.ssh(host, f"rm -rf {FAKE}/pci; mkdir -p {FAKE}/pci {FAKE}/module")
    for address, device, pci_class in devices:
        for name, value in (("vendor", "0x10de"), ("device", device), ("class", pci_class)):
            put(lab, host, f"{FAKE}/pci/{address}/{name}", f"{value}\n")
    lab.ssh(
        host,
        "systemctl daemon-reload; systemctl enable -q fake-kernel; umount -q /sys/bus/pci/devices /sys/module; "
        f"mount --bind {FAKE}/pci /sys/bus/pci/devices && mount --bind {FAKE}/module /sys/module",
    )


def unplug(lab: Lab, host: str) -> None:
    """Take the devices and every trace of them off the host."""
    lab.ssh(
        host,
        "systemctl disable -q fake-kernel; umount -q /sys/bus/pci/devices /sys/module; "
        f"rm -rf {FAKE} /usr/local/sbin/modprobe /etc/systemd/system/fake-kernel.service; systemctl daemon-reload",
    )
