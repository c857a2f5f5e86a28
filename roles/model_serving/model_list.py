"""The model list: from what the operator wrote to a tuple of models, or every problem of it in one error."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from roles import field_errors, plain_data
from roles.errors import InputError
from roles.model_serving.list_source import Source
from roles.model_serving.model import FIELDS, Model

__all__ = ["OWN_FIELDS", "Model", "load"]

# What makes a model that model and therefore cannot be a default for all.
OWN_FIELDS = frozenset({"model_id", "model_source", "slug"})
# A model adds to these defaults, name by name, instead of replacing them.
_MERGED_FIELDS = ("env", "secrets", "engine_kwargs")

_ELSEWHERE = "; arguments of vLLM's engine go under engine_kwargs"


def load(source: Source, *, remove_all: bool = False) -> tuple[Model, ...]:
    """The models of ``source``, in its order; raises InputError with all problems found, one line each.

    ``remove_all`` allows a list without models, which would remove every model from the rack.
    """
    entries, defaults = _read(source)
    if not entries and not remove_all:
        raise InputError(
            f"{source.where(('models',))}: empty, which would remove every model: "
            "if that is meant, say so with --data remove_all=true"
        )
    problems = _default_problems(defaults, source)
    models: dict[int, Model] = {}
    for index, entry in enumerate(entries):
        try:
            models[index] = _model(index, entry, defaults, source)
        except InputError as error:
            problems.extend(error.problems)
    problems.extend(_clashes(models, source))
    if problems:
        raise InputError(dict.fromkeys(problems))
    return tuple(models.values())


def _read(source: Source) -> tuple[Sequence[object], Mapping[str, object]]:
    """The entries as written, and the defaults."""
    if source.kind == "single":
        return [{"model_id": source.text}], {}
    if source.kind == "array":
        entries = plain_data.read_json(source.text, source.name)
        if not isinstance(entries, list):
            raise InputError(f"{source.name}: must be a JSON array of models: [{{...}}, {{...}}]")
        return entries, {}
    return _read_document(plain_data.read_yaml(source.raw(), source.name), source.name)


def _read_document(document: object, name: str) -> tuple[Sequence[object], Mapping[str, object]]:
    if document is None:
        raise InputError(f"{name}: empty: a model list has `models:` and may have `defaults:`")
    if not isinstance(document, dict):
        raise InputError(f"{name}: must be a mapping with `models:`, not {_kind(document)}")
    parts = ("models", "defaults")
    problems = []
    for key in document:
        if key not in parts:
            hint = field_errors.did_you_mean(key, parts) or "; a list has `models` and `defaults`"
            problems.append(f"{name}: {field_errors.path((key,))}: unknown{hint}")
    entries, defaults = document.get("models"), document.get("defaults", {})
    if "models" not in document:
        problems.append(f"{name}: models: missing")
    elif not isinstance(entries, list):
        problems.append(f"{name}: models: must be a list of models, not {_kind(entries)}")
    if not isinstance(defaults, dict):
        problems.append(f"{name}: defaults: must be a mapping of fields, not {_kind(defaults)}")
    if problems:
        raise InputError(problems)
    assert isinstance(entries, list)
    assert isinstance(defaults, dict)
    return entries, defaults


def _kind(value: object) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")


def _default_problems(defaults: Mapping[str, object], source: Source) -> list[str]:
    """What is wrong with `defaults` whatever the models are; their values are judged with the models that take them."""
    problems = []
    for name in defaults:
        if name in OWN_FIELDS:
            problems.append(f"{source.where(('defaults', name))}: not for all models: set it on each")
        elif name not in FIELDS:
            hint = field_errors.did_you_mean(name, FIELDS) or _ELSEWHERE
            problems.append(f"{source.where(('defaults', name))}: unknown field{hint}")
    return problems


def _model(index: int, entry: object, defaults: Mapping[str, object], source: Source) -> Model:
    if not isinstance(entry, dict):
        hint = f"; write `model_id: {entry}`" if isinstance(entry, str) and len(entry) < 60 else ""
        raise InputError(f"{source.where(('models', index))}: must be a mapping of fields, not {_kind(entry)}{hint}")
    usable = {name: value for name, value in defaults.items() if name in FIELDS - OWN_FIELDS}

    def where(path: field_errors.Path) -> str:
        ours = _holds(entry, path) or not _holds(usable, path)
        return source.where(("models", index, *path) if ours else ("defaults", *path))

    try:
        return Model.model_validate(_merged(entry, usable))
    except ValidationError as error:
        raise InputError(field_errors.lines(error, where, FIELDS, unknown=_ELSEWHERE)) from None


def _merged(entry: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**defaults, **entry}
    for name in _MERGED_FIELDS:
        own, common = entry.get(name), defaults.get(name)
        if isinstance(own, dict) and isinstance(common, dict):
            merged[name] = {**common, **own}
    return merged


def _holds(data: Mapping[str, Any], path: field_errors.Path) -> bool:
    """Whether the value at ``path`` was written in ``data``. Below a merged field, each name has its own origin."""
    name, *rest = path
    if name not in data:
        return False
    return not (rest and name in _MERGED_FIELDS and isinstance(data[name], dict)) or rest[0] in data[name]


def _clashes(models: Mapping[int, Model], source: Source) -> Iterator[str]:
    """Models that cannot stand beside each other, each told from the later one."""
    by_route: dict[tuple[str, str], int] = {}
    by_slug: dict[str, int] = {}
    for index, model in models.items():
        other = by_route.setdefault((model.route_prefix, model.model_id), index)
        if other != index:
            yield (
                f"{source.where(('models', index, 'model_id'))}: {model.model_id} is already served on "
                f"{model.route_prefix} by {_entry(other, source)}"
            )
            continue
        other = by_slug.setdefault(model.slug, index)
        if other != index:
            same = models[other].model_id == model.model_id
            reason = "the same model on another prefix" if same else f"of {models[other].model_id}"
            yield (
                f"{source.where(('models', index, 'slug'))}: {model.slug} is already the slug of "
                f"{_entry(other, source)}, {reason}: give this one a `slug` of its own"
            )


def _entry(index: int, source: Source) -> str:
    return f"[{index}]" if source.kind == "array" else f"models[{index}]"
