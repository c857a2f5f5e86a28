"""The secrets of a run: read and checked once, before any host is looked at. This alone reads secret sources."""

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import ParamSpec, TypeVar

from pydantic import SecretStr
from pyinfra import logger

from deploy.inputs import run
from deploy.inputs.rack import Rack, RackHost
from roles import field_errors
from roles.errors import InputError
from roles.gateway import activation as gateway_activation
from roles.gateway import steps as gateway
from roles.gateway.declared_keys import declared_map, key_list
from roles.secrets import certificate
from roles.secrets.certificate import OwnCertificate
from roles.secrets.secret_file import SecretFile
from roles.secrets.source import SecretSource
from roles.setting_types import is_certificate_name

DIRECTORY = "/etc/rayrack/secrets"
Taken = ParamSpec("Taken")
Read = TypeVar("Read")


@dataclass(frozen=True)
class Secrets:
    """What comes from the operator's side: for all gateways, and by host."""

    declared_map: SecretStr
    """Not the keys, but what they are told by; empty when none is declared."""
    certificates: Mapping[str, OwnCertificate]
    """Of gateways that have one of their own."""
    files: Mapping[str, Mapping[str, SecretStr]]
    """Content by file name in /etc/rayrack/secrets."""
    warnings: tuple[str, ...]

    def of_host(self, name: str) -> tuple[SecretFile, ...]:
        """The files in /etc/rayrack/secrets of a host."""
        return tuple(SecretFile(f"{DIRECTORY}/{file}", text) for file, text in self.files.get(name, {}).items())

    def of_gateway(self, name: str) -> tuple[SecretFile, ...]:
        """What the gateway of a host is given: the declared keys, and its certificate if it has one of its own."""
        contents = [(declared_map.PATH, self.declared_map, "640")]
        if own := self.certificates.get(name):
            chain = gateway_activation.CERTIFICATE
            contents += [(f"{chain}.key", own.key, "640"), (chain, SecretStr(own.chain), "644")]
        return tuple(SecretFile(path, text, "root", gateway.USER, mode) for path, text, mode in contents)


@dataclass
class Sources:
    """Each source is read once in a run, however many hosts share it: a command may ask for a passphrase."""

    environ: Mapping[str, str]
    _answers: dict[tuple[SecretSource, Path, bool], SecretStr | InputError] = field(default_factory=dict)

    def read(self, source: SecretSource, where: str, base: Path, *, public: bool = False) -> SecretStr:
        """As ``SecretSource.read``; one that cannot be read is told by the first that asked for it."""
        asked = (source, base, public)
        if asked not in self._answers:
            try:
                self._answers[asked] = source.read(where, self.environ, base=base, public=public)
            except InputError as error:
                self._answers[asked] = error
        answer = self._answers[asked]
        if isinstance(answer, InputError):
            raise answer
        return answer


def load(rack: Rack, environ: Mapping[str, str], now: float) -> Secrets:
    """Read and check all that the settings name. ``now``: Unix time.

    Raises:
        InputError: with every problem, one line each, and no secret in any of them.
    """
    sources = Sources(environ)
    problems: list[str] = []
    here = Path.cwd()

    def tried(read: Callable[Taken, Read], *given: Taken.args, **named: Taken.kwargs) -> Read | None:
        try:
            return read(*given, **named)
        except InputError as error:
            problems.extend(error.problems)
            return None

    keys = tried(_keys, rack, sources, now)
    certificates: dict[str, OwnCertificate] = {}
    files: dict[str, dict[str, SecretStr]] = {}
    for each in rack.hosts:
        if own := tried(_certificate, each, sources, here, now):
            certificates[each.name] = own
        for name, source in sorted((each.settings.secrets or {}).items()):
            if content := tried(sources.read, source, f"{each.name}: {field_errors.path(('secrets', name))}", here):
                files.setdefault(each.name, {})[name] = content
    if problems or keys is None:
        raise InputError(dict.fromkeys(problems))
    warnings = [*keys.warnings, *(line for own in certificates.values() for line in own.warnings)]
    text = SecretStr(declared_map.render(keys.entries))
    return Secrets(text, certificates, files, tuple(dict.fromkeys(warnings)))


def _keys(rack: Rack, sources: Sources, now: float) -> key_list.KeyList:
    """The head's ``keys_file`` is the rack's, as its ``models_file`` is."""
    name = rack.head.settings.keys_file
    for each in rack.hosts:
        if each.settings.keys_file not in (None, name):
            raise InputError(f"{each.name}: keys_file: is not the head's: all gateways know the same keys")
    if name is None:
        return key_list.KeyList(())
    # Of a link its own directory, which is where the operator wrote the name.
    base = (Path.cwd() / name).parent
    model_ids = [model.model_id for model in rack.models]
    return key_list.load(name, lambda source, where: sources.read(source, where, base), model_ids=model_ids, now=now)


def _certificate(each: RackHost, sources: Sources, here: Path, now: float) -> OwnCertificate | None:
    settings = each.settings
    if not each.has_gateway or settings.gateway_certificate is None or settings.gateway_certificate_key is None:
        return None
    chain_at, key_at = f"{each.name}: gateway_certificate", f"{each.name}: gateway_certificate_key"
    chain = sources.read(settings.gateway_certificate, chain_at, here, public=True)
    return certificate.check(
        chain.get_secret_value(),
        sources.read(settings.gateway_certificate_key, key_at, here),
        chain_at=chain_at,
        key_at=key_at,
        wanted=settings.gateway_names or ([each.name] if is_certificate_name(each.name) else []),
        now=datetime.fromtimestamp(now, UTC),
    )


_answer: list[Secrets | run.StopRunError] = []
# pyinfra reads a deploy file for all hosts at once, and a command lets the others go on.
_reading = threading.Lock()


def of_run() -> Secrets:
    """The secrets of this run. The first to ask reads them: the preflight, so that a wrong source changes no host.

    Raises:
        StopRunError: with every problem.
    """
    with _reading:
        if not _answer:
            _answer.append(_read_all())
    if isinstance(_answer[0], run.StopRunError):
        raise _answer[0]
    return _answer[0]


def _read_all() -> Secrets | run.StopRunError:
    try:
        found = load(run.rack(), os.environ, time.time())
    except InputError as error:
        return run.StopRunError(error.problems)
    for warning in found.warnings:
        logger.warning(f"    warning: {warning}")
    return found


def files_of(each: RackHost) -> tuple[SecretFile, ...]:
    """All files that a host of the rack gets from here."""
    found = of_run()
    return (*found.of_host(each.name), *(found.of_gateway(each.name) if each.has_gateway else ()))
