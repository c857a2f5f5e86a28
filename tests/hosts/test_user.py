"""The users that rayrack's services run as."""

from tests.hosts.reach import CheckedHost, expect


def test_service_user_exists_and_cannot_log_in(host: CheckedHost) -> None:
    expect_service_user(host, "rayrack")


def test_gateway_has_a_user_of_its_own_that_cannot_log_in(host: CheckedHost) -> None:
    # On every host: the firewall names it.
    expect_service_user(host, "rayrack-gateway")


def expect_service_user(host: CheckedHost, name: str) -> None:
    user = host.as_root.user(name)
    expect(user.exists, f"{host}: the user {name} is missing", host.deploy_again)
    expect(
        user.shell.endswith(("/nologin", "/false")),
        f"{host}: the user {name} has the shell {user.shell}, so it can log in",
        host.deploy_again,
    )
    expect(
        user.uid != 0 and user.group == name,
        f"{host}: the user {name} has uid {user.uid} and group {user.group}, must be a user of its own",
        host.deploy_again,
    )
