"""Settings of a host that must fit together: what is wrong, and with which of them. Pure: no pyinfra."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from roles.planner.memory import hardware
from roles.setting_types import port_range

if TYPE_CHECKING:
    from roles.settings import Settings

Problem = tuple[tuple[str], str]

# Directories that the user rayrack owns.
OWN_DIRECTORIES = ("ray_temp_dir", "weights_dir", "cache_dir")


def problems(settings: Settings) -> Iterator[Problem]:
    """All of them, each with the setting it is about."""
    yield from _ports(settings)
    yield from _open_ports(settings)
    yield from _clean_up(settings)
    yield from _directories(settings)
    yield from _image(settings)
    yield from _certificate(settings)
    if contradiction := hardware.problem(settings.gpu_model, settings.gpu_memory_gib):
        yield ("gpu_memory_gib",), contradiction


def _ports(settings: Settings) -> Iterator[Problem]:
    """Each port once, and none inside a range: a firewall and a person must be able to tell them apart."""
    ranges = {name: port_range(getattr(settings, name)) for name in ("worker_ports", "direct_ingress_ports")}
    seen: dict[int, str] = {}
    for name in (name for name in type(settings).model_fields if name.endswith("_port")):
        port = getattr(settings, name)
        if (other := seen.setdefault(port, name)) != name:
            yield (name,), f"is {port}, and so is {other}"
        for range_name, (low, high) in ranges.items():
            if low <= port <= high:
                yield (name,), f"{port} lies within {range_name} ({low}-{high})"
    (low_a, high_a), (low_b, high_b) = ranges.values()
    if low_a <= high_b and low_b <= high_a:
        yield ("direct_ingress_ports",), "overlaps worker_ports"


def _open_ports(settings: Settings) -> Iterator[Problem]:
    """What listens there takes orders, or shows what no stranger should see."""
    for low, high in open_ports(settings):
        for port_low, port_high, name in closed_ports(settings):
            if low <= port_high and port_low <= high:
                shown = f"{low}" if low == high else f"{low}-{high}"
                yield ("firewall_open_ports",), f"{shown} has {name} in it, which is never open to all"


def open_ports(settings: Settings) -> Iterator[tuple[int, int]]:
    """The first and the last port of each that ``firewall_open_ports`` leaves open to all."""
    for each in settings.firewall_open_ports or ():
        yield port_range(each) if isinstance(each, str) else (each, each)


def closed_ports(settings: Settings) -> Iterator[tuple[int, int, str]]:
    """The first and the last port of every setting whose ports are not for everybody: all but the gateway's."""
    for name in type(settings).model_fields:
        if name.endswith("_port") and name != "gateway_port":
            port = getattr(settings, name)
            yield port, port, name
    for name in ("worker_ports", "direct_ingress_ports"):
        low, high = port_range(getattr(settings, name))
        yield low, high, name


def _clean_up(settings: Settings) -> Iterator[Problem]:
    """It acts before it warns."""
    eager, warn = settings.clean_ray_eager_percent, settings.clean_ray_warn_percent
    if eager > warn:
        yield ("clean_ray_eager_percent",), f"is {eager}, above clean_ray_warn_percent ({warn})"


def _directories(settings: Settings) -> Iterator[Problem]:
    """Each has an owner, a mode and a clean-up of its own, so none is another or lies in another."""
    for first, second in combinations(OWN_DIRECTORIES, 2):
        one, other = PurePosixPath(getattr(settings, first)), PurePosixPath(getattr(settings, second))
        if one == other:
            yield (second,), f"is {other}, and so is {first}; set another"
        elif other.is_relative_to(one):
            yield (second,), f"{other} lies in {first} ({one}); set another"
        elif one.is_relative_to(other):
            yield (first,), f"{one} lies in {second} ({other}); set another"


def _image(settings: Settings) -> Iterator[Problem]:
    """Whoever could put another file in the image's place would have root mount it; and no image lies in itself."""
    image = PurePosixPath(settings.ray_temp_image)
    for name in OWN_DIRECTORIES:
        if image.is_relative_to(getattr(settings, name)):
            yield ("ray_temp_image",), f"must not lie in {name} ({getattr(settings, name)})"
            return
    for directory in ("/var/lib/rayrack", "/tmp", "/var/tmp"):  # noqa: S108 - refused
        if image.is_relative_to(directory):
            yield ("ray_temp_image",), f"must not lie in {directory}, where not only root can write"


def _certificate(settings: Settings) -> Iterator[Problem]:
    """One without the other serves nobody."""
    pair = ("gateway_certificate", "gateway_certificate_key")
    for name, other in (pair, pair[::-1]):
        if getattr(settings, name) is None and getattr(settings, other) is not None:
            yield (name,), f"missing: {other} is set"
