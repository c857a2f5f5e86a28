"""Gives a GPU host its driver, of exactly one version, and keeps it there. Safe to repeat."""

from typing import Any

from pyinfra.api.deploy import deploy
from pyinfra.api.operation import OperationMeta
from pyinfra.operations import files

from roles.nvidia_driver import activation, apt
from roles.nvidia_driver.plan import Plan, Repository
from roles.nvidia_driver.rules import SOURCES_FILE

KEYRING = "/etc/apt/keyrings/rayrack-nvidia.asc"
PREFERENCES = "/etc/apt/preferences.d/rayrack-nvidia"
UNATTENDED = "/etc/apt/apt.conf.d/52rayrack-nvidia"
MODPROBE = "/etc/modprobe.d/rayrack-nvidia.conf"


@deploy("NVIDIA driver")
def install(*, plan: Plan | None, allow_reboot: bool) -> None:
    """The driver's packages, pinned and held, and its module at work.

    ``plan`` is that of :func:`roles.nvidia_driver.plan.plan`; None: this host has no GPU, or its driver is left alone.
    Whatever forbids it was told before (preflight).
    """
    if plan is None:
        return
    activation.reboot_allowed_or_not_needed(
        name="The packages fit what runs, or a reboot is allowed", plan=plan, allow_reboot=allow_reboot
    )
    apt.headers_present(name="Kernel headers", plan=plan)
    repository = _repository(plan.repository)
    apt.version_offered(
        name=f"The repository has driver {plan.version}",
        plan=plan,
        written=lambda: [path for path, step in repository.items() if step.did_change()],
    )
    _template("Pin the driver's version", PREFERENCES, driver=plan)
    _template("Keep unattended upgrades away from the driver", UNATTENDED)
    # kmod brings the directory, and may come with the driver only.
    _template("Keep the kernel's own drivers away from the GPUs", MODPROBE, make_directory=True)
    apt.driver_present(name=f"Driver {plan.version}", plan=plan)
    apt.all_held(name="Hold the driver's packages")
    activation.initramfs_current(name="Initial RAM disks know the blacklist", path=MODPROBE)
    activation.module_loaded(name=f"Driver {plan.version} is loaded", plan=plan, allow_reboot=allow_reboot)
    activation.services_run(name="The driver's services run", units=plan.packages.services)


def _repository(repository: Repository | None) -> dict[str, OperationMeta]:
    """The repository's files, each with the operation that writes it."""
    if repository is None:
        files.file(name="No repository of NVIDIA's", path=SOURCES_FILE, present=False)
        return {}
    return {
        KEYRING: apt.key_present(name="Key of NVIDIA's repository", repository=repository, path=KEYRING),
        SOURCES_FILE: _template("NVIDIA's repository", SOURCES_FILE, repository=repository, keyring=KEYRING),
    }


def _template(name: str, path: str, *, make_directory: bool = False, **values: Any) -> OperationMeta:
    return files.template(
        name=name,
        src=f"templates/nvidia_driver{path}.j2",
        dest=path,
        user="root",
        group="root",
        mode="644",
        create_remote_dir=make_directory,
        **values,
    )
