"""Puts the clean-up of Ray's temporary directory on a host, and has cron run it."""

from dataclasses import dataclass
from pathlib import Path

from pyinfra.api.deploy import deploy
from pyinfra.operations import files

from roles import host_programs
from roles.settings import Settings

HOST = Path(__file__).parent / "host"
MODULES = [HOST / f"clean_ray_{name}.py" for name in ("files", "metrics", "plan", "uses")]


@dataclass(frozen=True)
class CleanUp:
    """What the cron entry is rendered with: the options of clean_ray."""

    dir: str
    min_age_minutes: int
    log_max_age_hours: int
    log_budget_mib: int
    runaway_log_mib: int
    eager_percent: int
    warn_percent: int
    textfile_dir: str

    @classmethod
    def from_settings(cls, settings: Settings) -> "CleanUp":
        return cls(
            dir=settings.ray_temp_dir,
            min_age_minutes=settings.clean_ray_min_age_minutes,
            log_max_age_hours=settings.clean_ray_log_max_age_hours,
            log_budget_mib=settings.clean_ray_log_budget_mib,
            runaway_log_mib=settings.clean_ray_runaway_log_mib,
            eager_percent=settings.clean_ray_eager_percent,
            warn_percent=settings.clean_ray_warn_percent,
            textfile_dir=settings.metrics_dir,
        )

    @property
    def options(self) -> str:
        return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in vars(self).items())


@deploy("Clean-up of Ray's files")
def install(*, cleanup: CleanUp) -> None:
    """Needs cron and /opt/rayrack (base_system). cron notices the changed entry by itself."""
    host_programs.install(name="Program of the clean-up", programs=[HOST / "clean_ray.py"], modules=MODULES)
    files.directory(name="Directory of metrics", path=cleanup.textfile_dir)
    files.template(
        name="Cron entry of the clean-up",
        src="templates/ray_cleanup/etc/cron.d/rayrack-clean.j2",
        dest="/etc/cron.d/rayrack-clean",
        user="root",
        group="root",
        mode="644",
        create_remote_dir=False,
        cleanup=cleanup,
    )
