from roles.ray_cleanup import steps
from tests.roles.fake_host import changes


def test_cron_runs_the_clean_up_as_root_with_the_settings_and_into_the_journal() -> None:
    changed = changes(steps.install, {}, ray_temp_dir="/data/ray", min_age_minutes=45)
    (entry,) = changed["Cron entry of the clean-up"].files.values()
    assert entry.splitlines()[1:] == [
        "*/10 * * * * root systemd-cat -t rayrack-clean "
        "/opt/rayrack/bin/clean_ray --temp-dir /data/ray --min-age-minutes 45"
    ]
    assert entry.endswith("\n"), "cron ignores an entry without a newline at its end"


def test_the_cron_entry_is_where_cron_reads_it_and_only_root_can_change_it() -> None:
    changed = changes(steps.install, {}, ray_temp_dir="/tmp/ray", min_age_minutes=60)
    assert list(changed["Cron entry of the clean-up"].files) == ["/etc/cron.d/rayrack-clean"]
    assert changed["Cron entry of the clean-up"].commands == (
        "chown root:root /etc/cron.d/rayrack-clean",
        "chmod 644 /etc/cron.d/rayrack-clean",
    )


def test_the_program_is_put_where_the_cron_entry_runs_it() -> None:
    changed = changes(steps.install, {}, ray_temp_dir="/tmp/ray", min_age_minutes=60)
    change = changed["Program of the clean-up"]
    assert list(change.files) == ["/opt/rayrack/lib/clean_ray.py"]
    assert change.commands[-1] == "ln -s /opt/rayrack/lib/clean_ray.py /opt/rayrack/bin/clean_ray"
