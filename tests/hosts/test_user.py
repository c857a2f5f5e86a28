"""The user that everything of rayrack's runs as."""

from tests.hosts.reach import CheckedHost, expect


def test_service_user_exists_and_cannot_log_in(host: CheckedHost) -> None:
    user = host.as_root.user("rayrack")
    expect(user.exists, f"{host}: the user rayrack is missing", host.deploy_again)
    expect(
        user.shell.endswith(("/nologin", "/false")),
        f"{host}: the user rayrack has the shell {user.shell}, so it can log in",
        host.deploy_again,
    )
    expect(
        user.uid != 0 and user.group == "rayrack",
        f"{host}: the user rayrack has uid {user.uid} and group {user.group}, must be a user of its own",
        host.deploy_again,
    )
