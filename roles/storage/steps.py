"""Makes the directories that grow: Ray's files, weights, caches."""

from dataclasses import dataclass

from pyinfra.api.deploy import deploy
from pyinfra.operations import files

from roles.base_system import tmpfiles

TMPFILES = "/etc/tmpfiles.d/rayrack-storage.conf"


@dataclass(frozen=True)
class Directories:
    """What the template is rendered with; all absolute paths without white space."""

    ray_temp_dir: str
    weights_dir: str
    cache_dir: str


@deploy("Storage")
def install(*, ray_temp_dir: str, weights_dir: str, cache_dir: str) -> None:
    """The directories, theirs alone and kept from ageing. Whether there is room was looked at before (preflight)."""
    files.template(
        name="Declare the directories that grow",
        src="templates/storage/etc/tmpfiles.d/rayrack-storage.conf.j2",
        dest=TMPFILES,
        user="root",
        group="root",
        mode="644",
        create_remote_dir=False,
        directories=Directories(ray_temp_dir, weights_dir, cache_dir),
    )
    tmpfiles.applied(name="Directories that grow as declared", path=TMPFILES)
