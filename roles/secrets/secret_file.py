"""A file on a host whose content nobody may see. Pure: no pyinfra."""

from dataclasses import dataclass

from pydantic import SecretStr


@dataclass(frozen=True)
class SecretFile:
    """What a host is to have at ``path``; ``mode`` as `400`."""

    path: str
    content: SecretStr
    user: str = "root"
    group: str = "root"
    mode: str = "400"
