"""Puts the clean-up of Ray's temporary directory on a host, and has cron run it."""

from dataclasses import dataclass
from pathlib import Path

from pyinfra.api.deploy import deploy
from pyinfra.operations import files

from roles import host_programs

HOST = Path(__file__).parent / "host"


@dataclass(frozen=True)
class CleanUp:
    """What the cron entry is rendered with."""

    ray_temp_dir: str
    min_age_minutes: int


@deploy("Clean-up of Ray's files")
def install(*, ray_temp_dir: str, min_age_minutes: int) -> None:
    """Needs cron and /opt/rayrack (base_system). cron notices the changed entry by itself."""
    host_programs.install(name="Program of the clean-up", programs=[HOST / "clean_ray.py"])
    files.template(
        name="Cron entry of the clean-up",
        src="templates/ray_cleanup/etc/cron.d/rayrack-clean.j2",
        dest="/etc/cron.d/rayrack-clean",
        user="root",
        group="root",
        mode="644",
        create_remote_dir=False,
        cleanup=CleanUp(ray_temp_dir, min_age_minutes),
    )
