"""The file that HAProxy looks declared keys up in, by their hashes, with what each may do. Pure: no pyinfra."""

from collections.abc import Iterable

from roles.gateway.config import DIRECTORY
from roles.gateway.declared_keys.host_rules import gateway_keys

PATH = f"{DIRECTORY}/keys/declared.map"


def render(keys: Iterable[gateway_keys.Key]) -> str:
    """The text of the map, in the order of names: moving a key in the list changes nothing.

    Raises:
        ValueError: a key would be another one, or several, to whoever reads its line.
    """
    return "".join(_line(key) for key in sorted(keys, key=lambda key: key.name))


def _line(key: gateway_keys.Key) -> str:
    try:
        read = gateway_keys.parse(key.line, PATH)
    except gateway_keys.KeyProblem:
        read = []
    if read != [key]:
        raise ValueError(f"the key {key.name!r} cannot be written as a line of the gateway's map")
    return key.line
