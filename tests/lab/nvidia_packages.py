"""NVIDIA's packages for Debian by name, version and dependency, with nothing of the driver in them.

Names, versions and the ``>=`` between them are those of NVIDIA's repository for Debian at branch 580.
"""

from collections.abc import Iterable

from tests.lab.apt_repository import Deb

KERNEL_MODULES = ("nvidia-kernel-open-dkms", "nvidia-kernel-dkms")
OLDEST_OF_BRANCH = "580.65.06"
UNIT = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
# Not of the driver, but of NVIDIA: its version is its own.
CONTAINER_TOOLKIT = Deb("nvidia-container-toolkit", "1.17.8-1")


def driver(version: str, *, fabric_manager: bool = True) -> list[Deb]:
    """All packages of one driver."""
    revision = f"{version}-1"
    at_least = f"(>= {OLDEST_OF_BRANCH})"
    graphics = {"Source": "nvidia-graphics-drivers"}
    other = dict(zip(KERNEL_MODULES, reversed(KERNEL_MODULES), strict=True))
    packages = [
        *(
            Deb(
                name,
                revision,
                {**graphics, "Conflicts": other[name]},
                {f"/usr/src/{name}-{version}/version": f"{version}\n"},
            )
            for name in KERNEL_MODULES
        ),
        Deb(
            "nvidia-driver-cuda",
            revision,
            {**graphics, "Depends": f"libcuda1 {at_least}, nvidia-smi {at_least}, nvidia-persistenced {at_least}"},
        ),
        Deb("libcuda1", revision, {**graphics, "Depends": f"libnvidia-ml1 {at_least}"}),
        Deb("libnvidia-ml1", revision, graphics),
        Deb("nvidia-smi", revision, {**graphics, "Depends": f"libnvidia-ml1 {at_least}"}),
        _service("nvidia-persistenced", revision),
    ]
    return packages + ([_service("nvidia-fabricmanager", revision)] if fabric_manager else [])


def headers(kernel: str) -> Deb:
    """The headers of a kernel, as far as anybody asks for them."""
    return Deb(f"linux-headers-{kernel}", "1.0-1", files={f"/lib/modules/{kernel}/build/Makefile": "all:\n"})


def repository(versions: Iterable[str], kernel: str) -> list[Deb]:
    """Drivers of several versions; only those of branch 580 have a fabric manager."""
    drivers = [deb for version in versions for deb in driver(version, fabric_manager=version.startswith("580."))]
    return [*drivers, headers(kernel), CONTAINER_TOOLKIT]


def _service(name: str, revision: str) -> Deb:
    return Deb(
        name,
        revision,
        {"Source": "fabricmanager" if name == "nvidia-fabricmanager" else name},
        {f"/lib/systemd/system/{name}.service": f"[Unit]\nDescription={name} of the tests\n{UNIT}"},
        {
            "postinst": "[ ! -d /run/systemd/system ] || systemctl daemon-reload",
            "prerm": f'[ "$1" != remove ] || systemctl disable --quiet --now {name}',
        },
    )
