"""apt's proxy. Its URL may hold a password, so root alone reads the file, and no output shows it."""

import hashlib
import shlex
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from pyinfra.api.command import StringCommand
from pyinfra.api.facts import FactBase
from pyinfra.api.operation import operation
from pyinfra.api.util import get_template
from pyinfra.context import host

PATH = "/etc/apt/apt.conf.d/80rayrack-proxy"
TEMPLATE = "templates/base_system/etc/apt/apt.conf.d/80rayrack-proxy.j2"


@dataclass(frozen=True)
class AptProxy:
    """What the template is rendered with."""

    url: str
    direct_hosts: tuple[str, ...]

    @classmethod
    def of(cls, http_proxy: str, no_proxy: str) -> "AptProxy":
        return cls(http_proxy, tuple(entry.strip() for entry in no_proxy.split(",") if entry.strip()))

    @property
    def text(self) -> str:
        return get_template(TEMPLATE).render(proxy=self).rstrip("\n") + "\n"


class ProxyFile(FactBase[str]):
    """``OWNER:GROUP MODE SHA256`` of the file; empty when it is missing."""

    def command(self) -> str:
        path = shlex.quote(PATH)
        return f'[ ! -e {path} ] || echo "$(stat -c "%U:%G %a" {path}) $(sha256sum <{path})"'

    @staticmethod
    def default() -> str:
        return ""

    def process(self, output: Sequence[str]) -> str:
        return output[-1].removesuffix("-").strip()


@operation()
def written(proxy: AptProxy) -> Generator[StringCommand, None, None]:
    """
    Write apt's proxy file, for root alone. pyinfra's file operations would show it with ``--diff``.

    + proxy: what stands in it
    """
    digest = hashlib.sha256(proxy.text.encode()).hexdigest()
    if host.get_fact(ProxyFile) == f"root:root 600 {digest}":
        host.noop("apt has this proxy")
        return
    yield StringCommand(f"umask 077; cat >{PATH}.new && mv -f {PATH}.new {PATH}", _stdin=proxy.text)
