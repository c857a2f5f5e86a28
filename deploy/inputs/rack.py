"""The rack a run is about: its hosts with their settings, and its models.

This is the one place that reads ``host.data`` and, for the model list, the environment.
"""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError
from pyinfra.api.host import Host
from pyinfra.api.inventory import Inventory
from pyinfra.connectors.fake import FakeConnectorData
from pyinfra.connectors.ssh import connector_data_meta

from roles import field_errors
from roles.errors import InputError
from roles.model_serving import model_list
from roles.model_serving.list_source import Source, choose_source
from roles.model_serving.model import Model
from roles.settings import Settings

# Data of pyinfra's own that may stand beside ours.
PYINFRA_DATA = frozenset(connector_data_meta) | frozenset(FakeConnectorData.__annotations__)
# What one host's processes take from their own settings and meet on another host: a worker looks for its head's GCS at
# `gcs_port`; the head gives replicas on all hosts their ports and the paths of their caches.
SAME_ON_ALL = ("gcs_port", "direct_ingress_ports", "cache_dir")
NO_SUCH_SETTING = "; docs/settings.md lists the settings"


@dataclass(frozen=True)
class RackHost:
    """One host of the inventory and what is set for it."""

    name: str
    is_head: bool
    settings: Settings

    @property
    def has_gateway(self) -> bool:
        """Whether clients come in on this host."""
        return self.settings.runs_gateway(is_head=self.is_head)


@dataclass(frozen=True)
class Rack:
    """All hosts of the inventory, also those a ``--limit`` leaves out, and the models they serve."""

    hosts: tuple[RackHost, ...]
    models: tuple[Model, ...]
    models_source: Source

    @cached_property
    def head(self) -> RackHost:
        return next(host for host in self.hosts if host.is_head)

    def host(self, name: str) -> RackHost:
        return next(host for host in self.hosts if host.name == name)


def load_rack(inventory: Inventory, environ: Mapping[str, str]) -> Rack:
    """Read and check the inventory, then its model list.

    Raises:
        InputError: with every problem of the inventory or, when it has none, of the model list.
    """
    hosts = _hosts(inventory)
    head = next(host for host in inventory if "head" in host.groups)
    source = choose_source(
        inventory.get_override_data().get("models_file"), _inventory_data(head).get("models_file"), environ
    )
    remove_all = any(host.settings.remove_all for host in hosts)
    return Rack(hosts, model_list.load(source, remove_all=remove_all), source)


def settings_of(host_name: str, data: Mapping[str, Any]) -> Settings:
    """Validate one host's data.

    Raises:
        InputError: with one line per wrong value, each naming the host and the setting.
    """
    ours = {key: value for key, value in data.items() if not key.startswith("_") and key not in PYINFRA_DATA}

    def where(path: field_errors.Path) -> str:
        return ": ".join(part for part in (host_name, field_errors.path(path)) if part)

    try:
        return Settings(**ours)
    except ValidationError as error:
        raise InputError(field_errors.lines(error, where, Settings.model_fields, unknown=NO_SUCH_SETTING)) from None


def _hosts(inventory: Inventory) -> tuple[RackHost, ...]:
    problems = list(_group_problems(list(inventory)))
    hosts = []
    for host in inventory:
        try:
            hosts.append(RackHost(host.name, "head" in host.groups, settings_of(host.name, host.data.dict())))
        except InputError as error:
            problems.extend(error.problems)
    problems += _once_problems(list(inventory))
    problems = problems or list(_rack_problems(hosts))
    if problems:
        raise InputError(problems)
    return tuple(hosts)


def _once_problems(hosts: Sequence[Host]) -> Iterator[str]:
    """What is for one run, and would happen in each when it stood in the inventory."""
    for host in hosts:
        if _inventory_data(host).get("rotate_ray_token"):
            yield (
                f"{host.name}: rotate_ray_token: in the inventory it would make a new token at every run: take it out, "
                "and give it to a single one: --data rotate_ray_token=true"
            )


def _rack_problems(hosts: Sequence[RackHost]) -> Iterator[str]:
    """What is wrong with the hosts together, when each is well by itself."""
    for setting in SAME_ON_ALL:
        names: dict[object, list[str]] = {}
        for host in hosts:
            names.setdefault(getattr(host.settings, setting), []).append(host.name)
        if len(names) > 1:
            found = "; ".join(f"{value} on {', '.join(on)}" for value, on in names.items())
            yield f"inventory: {setting} must be the same on all hosts, it is {found}: set it once for all of them"
    addresses: dict[str, list[str]] = {}
    for host in hosts:
        if host.settings.node_ip is not None:
            addresses.setdefault(host.settings.node_ip, []).append(host.name)
    for address, on in addresses.items():
        if len(on) > 1:
            yield f"inventory: node_ip {address} is set for {', '.join(on)}: each host needs an address of its own"
        elif len(hosts) > 1 and ipaddress.ip_address(address).is_loopback:
            yield f"{on[0]}: node_ip: {address} is loopback, where no other host reaches it; set the host's own address"


def _group_problems(hosts: Sequence[Host]) -> Iterator[str]:
    heads = [host.name for host in hosts if "head" in host.groups]
    if len(heads) != 1:
        found = ", ".join(heads) or "none"
        yield f"inventory: the group `head` must hold exactly one host, it holds {found}"
    for host in hosts:
        groups = {"head", "workers"} & set(host.groups)
        if not groups:
            yield f"inventory: {host.name} is in neither of the groups `head` and `workers`: put it into one"
        elif len(groups) == 2:
            yield f"inventory: {host.name} is in `head` and in `workers`: leave it in `head`, a head serves models, too"


def _inventory_data(host: Host) -> dict[str, Any]:
    """A host's data without what ``--data`` overrides."""
    return {**host.inventory.get_data(), **host.group_data, **host.host_data}
