"""The list of declared keys: from what the operator wrote to lines of the gateway's map, or every problem in one error.

It looks like the model list and is read by the same rules.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr, ValidationError

from roles import field_errors, plain_data
from roles.errors import InputError
from roles.gateway.declared_keys.host_rules import gateway_keys
from roles.gateway.declared_keys.key import FIELDS, SHORTEST, DeclaredKey
from roles.secrets.source import SecretSource, problem_of_key

Read = Callable[[SecretSource, str], SecretStr]


@dataclass(frozen=True)
class KeyList:
    """What a list declares. A key that has expired stands in it, and among ``warnings``: the gateway refuses it."""

    entries: tuple[gateway_keys.Key, ...]
    warnings: tuple[str, ...] = ()


def load(name: str, read: Read, *, model_ids: Sequence[str], now: float) -> KeyList:
    """The keys of the file ``name``.

    ``read`` takes a source and its path in the list. ``model_ids``: those of the model list. ``now``: Unix time.

    Raises:
        InputError: with all problems found, one line each; none of them holds a key.
    """
    try:
        with Path(name).open("rb") as file:
            raw = file.read(plain_data.MAX_BYTES + 1)
    except OSError as error:
        place = "" if name.startswith("/") else f" (looked for it from {Path.cwd()})"
        raise InputError(f"{name}: cannot read the list of keys: {error.strerror}{place}") from None
    problems: list[str] = []
    keys: dict[int, DeclaredKey] = {}
    for index, entry in enumerate(_entries(plain_data.read_yaml(raw, name), name)):
        try:
            keys[index] = _key(index, entry, name)
        except InputError as error:
            problems.extend(error.problems)
    problems.extend(_same_names(keys, name))
    for index, key in keys.items():
        problems.extend(_unknown_models(key, f"{name}: keys[{index}]", model_ids))
    digests: dict[int, str] = {}
    for index, key in keys.items():
        try:
            digests[index] = _digest(key, f"{name}: keys[{index}].from", read)
        except InputError as error:
            problems.extend(error.problems)
    problems.extend(_same_keys(keys, digests, name))
    if problems:
        raise InputError(dict.fromkeys(problems))
    entries = tuple(_entry_of(key, digests[index]) for index, key in keys.items())
    return KeyList(entries, tuple(_expired(keys, name, now)))


def _entries(document: object, name: str) -> Sequence[object]:
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise InputError(f"{name}: must be a mapping with `keys:`, a list of keys; `keys: []` declares none")
    others = [key for key in document if key != "keys"]
    if others:
        raise InputError(f"{name}: a list of keys has `keys:` alone, and this one has {len(others)} more beside it")
    entries: list[object] = document["keys"]
    return entries


def _key(index: int, entry: object, name: str) -> DeclaredKey:
    if not isinstance(entry, dict):
        raise InputError(f"{name}: keys[{index}]: must be a mapping of fields: {{name: ..., from: {{file: ...}}}}")

    def where(path: field_errors.Path) -> str:
        return f"{name}: {field_errors.path(('keys', index, *path))}"

    try:
        return DeclaredKey.model_validate(entry)
    except ValidationError as error:
        raise InputError(field_errors.lines(error, where, FIELDS)) from None


def _digest(key: DeclaredKey, where: str, read: Read) -> str:
    if key.source is None:
        assert key.sha256 is not None
        return key.sha256
    secret = read(key.source, where)
    if problem := problem_of_key(secret, SHORTEST):
        raise InputError(f"{where}.{key.source.kind}: the key {problem}")
    return hashlib.sha256(secret.get_secret_value().encode()).hexdigest()


def _same_names(keys: Mapping[int, DeclaredKey], name: str) -> Iterator[str]:
    seen: dict[str, int] = {}
    for index, key in keys.items():
        if (other := seen.setdefault(key.name, index)) != index:
            yield f"{name}: keys[{index}].name: {key.name} is already the name of keys[{other}]"


def _same_keys(keys: Mapping[int, DeclaredKey], digests: Mapping[int, str], name: str) -> Iterator[str]:
    """The gateway finds a key's name by the key."""
    seen: dict[str, int] = {}
    for index, digest in digests.items():
        if (other := seen.setdefault(digest, index)) != index:
            yield (
                f"{name}: keys[{index}]: {keys[index].name} is the same key as keys[{other}] ({keys[other].name}): "
                "each name needs a key of its own"
            )


def _unknown_models(key: DeclaredKey, where: str, model_ids: Sequence[str]) -> Iterator[str]:
    for index, model_id in enumerate(key.models or ()):
        if model_id not in model_ids:
            hint = field_errors.did_you_mean(model_id, model_ids) or "; a model that is removed is taken out here, too"
            yield f"{where}.models[{index}]: {model_id} is not in the model list{hint}"


def _expired(keys: Mapping[int, DeclaredKey], name: str, now: float) -> Iterator[str]:
    """Only told: else the day a key ends would be the day from which nothing can be deployed."""
    for index, key in keys.items():
        if key.ends <= now:
            yield f"{name}: keys[{index}]: {key.name} has expired ({key.expires}): the gateway refuses it"


def _entry_of(key: DeclaredKey, digest: str) -> gateway_keys.Key:
    per_minute = key.requests_per_minute or gateway_keys.NO_LIMIT
    return gateway_keys.Key(digest, key.name, key.ends, per_minute, tuple(dict.fromkeys(key.models or ())))
