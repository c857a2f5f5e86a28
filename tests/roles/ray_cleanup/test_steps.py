from pathlib import Path

import clean_ray

from roles.ray_cleanup import steps
from roles.settings import Settings
from tests.roles.fake_host import Change, changes


def installed(**settings: object) -> dict[str, Change]:
    cleanup = steps.CleanUp.from_settings(Settings.model_validate(settings))
    return changes(steps.install, {}, cleanup=cleanup)


def test_cron_runs_the_clean_up_as_root_niced_with_the_settings_and_into_the_journal() -> None:
    changed = installed(ray_temp_dir="/data/ray", clean_ray_min_age_minutes=45, metrics_dir="/data/metrics")
    (entry,) = changed["Cron entry of the clean-up"].files.values()
    (line,) = [line for line in entry.splitlines() if not line.startswith("#")]
    assert line == (
        "*/5 * * * * root systemd-cat -t rayrack-clean --stderr-priority=warning timeout --verbose 1h "
        "nice -n 19 ionice -c 2 -n 7 "
        "/opt/rayrack/bin/clean_ray --dir /data/ray --min-age-minutes 45 --log-max-age-hours 168 "
        "--log-budget-mib 10240 --runaway-log-mib 1024 --eager-percent 80 --warn-percent 90 "
        "--textfile-dir /data/metrics"
    )
    assert entry.endswith("\n"), "cron ignores an entry without a newline at its end"


def test_the_program_takes_the_options_of_the_cron_entry() -> None:
    cleanup = steps.CleanUp.from_settings(Settings(ray_temp_dir="/data/ray"))
    options = clean_ray.arguments().parse_args(cleanup.options.split())
    assert (options.dir, options.textfile_dir) == ("/data/ray", "/var/lib/prometheus/node-exporter")


def test_the_cron_entry_is_where_cron_reads_it_and_only_root_can_change_it() -> None:
    changed = installed()
    assert list(changed["Cron entry of the clean-up"].files) == ["/etc/cron.d/rayrack-clean"]
    assert changed["Cron entry of the clean-up"].commands == (
        "chown root:root /etc/cron.d/rayrack-clean",
        "chmod 644 /etc/cron.d/rayrack-clean",
    )


def test_the_program_is_put_where_the_cron_entry_runs_it_with_all_it_imports() -> None:
    change = installed()["Program of the clean-up"]
    assert sorted(change.files) == sorted(f"/opt/rayrack/lib/{file.name}" for file in Path(steps.HOST).glob("*.py"))
    assert change.commands[-1] == "ln -s /opt/rayrack/lib/clean_ray.py /opt/rayrack/bin/clean_ray"
