"""What the gateway serves and how: the one object its templates are rendered with. Pure: no pyinfra."""

import hashlib
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIG_TEMPLATE = "templates/gateway/etc/rayrack/gateway/haproxy.cfg.j2"
UNIT_TEMPLATE = "templates/gateway/etc/systemd/system/rayrack-gateway.service.j2"

DIRECTORY = "/etc/rayrack/gateway"
RUN_DIRECTORY = "/run/rayrack-gateway"

# Room in HAProxy's buffer beside the body: request headers (at most MAX_HEADER_BYTES, larger ones are refused),
# what HAProxy adds to them (tune.maxrewrite), and its own bookkeeping.
BUFFER_EXTRA_BYTES = 64 * 1024
MAX_HEADER_BYTES = 32 * 1024
# Connections beside those of clients: the metrics stay readable while clients take all of theirs.
METRICS_MAXCONN = 16

# Words of haproxy.cfg that need no quoting there, in JSON or in a log format.
_MODEL_ID = re.compile(r"[A-Za-z0-9._:/@+-]+")
_ROUTE_PREFIX = re.compile(r"(/[A-Za-z0-9._-]+)+")
_SLUG = re.compile(r"[a-z0-9._-]+")
_HOST = re.compile(r"[A-Za-z0-9._:-]+")


@dataclass(frozen=True, order=True)
class GatewayModel:
    """A model as clients see it. ``model_id`` on ``route_prefix`` is served by the Serve application of ``slug``.

    The model list has checked these already; a value that could write configuration of its own is a ``ValueError``.
    """

    route_prefix: str
    model_id: str
    slug: str

    def __post_init__(self) -> None:
        for value, pattern in ((self.route_prefix, _ROUTE_PREFIX), (self.model_id, _MODEL_ID), (self.slug, _SLUG)):
            if not pattern.fullmatch(value):
                raise ValueError(f"the gateway cannot serve {value!r}: needs {pattern.pattern}")


@dataclass(frozen=True)
class GatewayConfig:
    """The gateway's settings: see ``gateway_*`` and ``serve_port`` in ``roles/settings.py``."""

    bind: str
    port: int
    serve_port: int
    maxconn: int
    max_body_kib: int
    metrics_port: int
    serve_host: str = "127.0.0.1"
    """Where Serve is: the head itself, or the head's address on another host."""

    def __post_init__(self) -> None:
        if self.bind != "*":
            ipaddress.ip_address(self.bind)
        if not _HOST.fullmatch(self.serve_host):
            raise ValueError(f"the gateway cannot reach Serve at {self.serve_host!r}: needs an address or a name")


@dataclass(frozen=True)
class Gateway:
    """Everything the templates need. The order of ``models`` does not matter."""

    models: tuple[GatewayModel, ...]
    config: GatewayConfig
    directory: str = DIRECTORY
    """Where certificate and keys are."""
    run_directory: str = RUN_DIRECTORY
    """Where the sockets are that only root and the gateway itself may reach."""

    @classmethod
    def of(cls, models: Sequence[GatewayModel], config: GatewayConfig) -> "Gateway":
        return cls(tuple(sorted(models)), config)

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Every route prefix once, short before long: where one lies within another, the last that fits is right."""
        return tuple(sorted({model.route_prefix for model in self.models}, key=lambda prefix: (len(prefix), prefix)))

    @property
    def bind_address(self) -> str:
        return f"{_bracketed(self.config.bind)}:{self.config.port}"

    @property
    def health_url(self) -> str:
        """Where the host itself reaches the gateway."""
        loopback = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound
        address = loopback.get(self.config.bind, self.config.bind)
        return f"https://{_bracketed(address)}:{self.config.port}/healthz"

    @property
    def metrics_address(self) -> str:
        return f"{_bracketed(self.config.bind)}:{self.config.metrics_port}"

    @property
    def metrics_maxconn(self) -> int:
        return METRICS_MAXCONN

    @property
    def serve_address(self) -> str:
        return f"{_bracketed(self.config.serve_host)}:{self.config.serve_port}"

    @property
    def key_maps(self) -> tuple[str, str]:
        """The keys that a deploy declares, and those made on the host."""
        return f"{self.directory}/keys/declared.map", f"{self.directory}/keys/made.map"

    @property
    def certificate(self) -> str:
        """Its key lies beside it, with ``.key`` behind the name, where HAProxy looks for it by itself."""
        return f"{self.directory}/tls.pem"

    @property
    def max_body_bytes(self) -> int:
        return self.config.max_body_kib * 1024

    @property
    def buffer_bytes(self) -> int:
        return self.max_body_bytes + BUFFER_EXTRA_BYTES

    @property
    def max_header_bytes(self) -> int:
        return MAX_HEADER_BYTES

    @property
    def config_digest(self) -> str:
        """Names this configuration: the running gateway tells it on /healthz."""
        return _digest((ROOT / CONFIG_TEMPLATE).read_text(), repr(self))

    @property
    def unit_digest(self) -> str:
        """Names the unit file, likewise."""
        return _digest((ROOT / UNIT_TEMPLATE).read_text())


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
