from roles.storage import steps
from tests.roles.fake_host import changes


def test_directories_are_declared_for_the_service_user_and_rays_is_never_aged() -> None:
    changed = changes(
        steps.install, {}, ray_temp_dir="/data/ray", weights_dir="/data/models", cache_dir="/var/cache/rayrack"
    )
    (text,) = changed["Declare the directories that grow"].files.values()
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        "d /data/ray 0700 rayrack rayrack -",
        "x /data/ray",
        "d /data/models 0750 rayrack rayrack -",
        "d /var/cache/rayrack 0750 rayrack rayrack -",
    ]
