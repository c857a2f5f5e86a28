"""How a rack that has no API key yet is entered. Pure: no pyinfra."""

import shlex
from collections.abc import Mapping
from typing import Any

API_KEYS = "/opt/rayrack/bin/api_keys"
CERTIFICATE = "/etc/rayrack/gateway/tls.pem"


def lines(name: str, data: Mapping[str, Any], url: str) -> tuple[str, str]:
    """What to type on the operator's desk: for the first key, and for the certificate that clients trust.

    ``name`` and ``data``: the host in the inventory, and how pyinfra reaches it; ``url``: where clients do.
    """
    on_host = as_root_on(name, data)
    return (
        f"no API key yet: {on_host} {API_KEYS} make NAME",
        f"then: {on_host} cat {CERTIFICATE} >tls.pem; "
        f'curl --cacert tls.pem -H "Authorization: Bearer KEY" {url}/v1/models',
    )


def as_root_on(name: str, data: Mapping[str, Any]) -> str:
    """The words before a command that make it run as root on a host of the inventory."""
    if name == "@local":
        return "sudo"
    words = ["ssh"]
    for option, key in (("-F", "ssh_config_file"), ("-i", "ssh_key"), ("-p", "ssh_port")):
        if data.get(key):
            words += [option, str(data[key])]
    user, address = data.get("ssh_user"), str(data.get("ssh_hostname") or name.removeprefix("@ssh/"))
    words.append(f"{user}@{address}" if user else address)
    # Root may lack the program sudo.
    return shlex.join(words if user == "root" else [*words, "sudo"])
