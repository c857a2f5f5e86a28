"""The plan as a table for a terminal of 100 columns. Pure: no pyinfra, no Ray."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from string import ascii_uppercase
from textwrap import wrap

from roles.planner.plan import GpuShare, HostPlan, ModelPlan, Outcome, Plan

WIDTH = 100
# One GPU in a bar, so that a half and a quarter can be seen.
CELL = 4
# Hosts with more GPUs go on in the next line.
GPUS_PER_LINE = 8
FREE = "·"
LEFT_OUT = "-"

_COLOURS: Mapping[str, int] = {"red": 31, "green": 32, "yellow": 33, "bold": 1, "dim": 2}
_CHANGE_COLOUR: Mapping[str, str] = {
    "unchanged": "dim",
    "settings": "green",
    "reload": "green",
    "start": "green",
    "restart": "yellow",
    "stop": "yellow",
    "unknown": "yellow",
}
_OUTCOME: Mapping[Outcome, tuple[str, str]] = {
    "nothing": ("green", "nothing to do"),
    "changes": ("yellow", "changes"),
    "unknown": ("yellow", "nothing to do on the hosts that were looked at; the others are unknown"),
    "impossible": ("red", "impossible, and no host is changed"),
}


def text(plan: Plan, *, colour: bool = False) -> str:
    """The table; ``colour`` with ANSI colours, for a terminal. Problems and warnings are the run's to tell."""
    paint = _Paint(colour)
    letters = {model.slug: _letters(number) for number, model in enumerate(plan.models)}
    colour_name, words = _OUTCOME[plan.outcome]
    lines = [f"{paint('bold', 'plan:')} {paint(colour_name, words)}", "", *_hosts(plan.hosts, letters, paint), ""]
    lines += [line for model in plan.models for line in _model(model, letters[model.slug], paint)]
    return "\n".join(lines) + "\n"


class _Paint:
    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, name: str, words: str) -> str:
        return f"\x1b[{_COLOURS[name]}m{words}\x1b[0m" if self._colour and words else words


def _letters(number: int) -> str:
    """A, B, ..., Z, AA, AB, ...: as spreadsheets name columns."""
    found = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, len(ascii_uppercase))
        found = ascii_uppercase[rest] + found
    return found


def _hosts(hosts: Sequence[HostPlan], letters: Mapping[str, str], paint: _Paint) -> Iterator[str]:
    """Hosts that follow each other and are alike share their lines."""
    shown = [(host, (_hardware(host), _bars(host, letters), _host_change(host))) for host in hosts]
    for (hardware, bars, change), alike in groupby(shown, key=lambda entry: entry[1]):
        (first, _), *others = alike
        more = f" +{len(others)} alike" if others else ""
        head = f"{_cut(first.name, 28 - len(more)) + more:28} {hardware:14}"
        yield f"{head} {bars[0]}".rstrip()
        yield from (f"{'':{len(head)}} {bar}".rstrip() for bar in bars[1:])
        yield from (f"    {paint(colour, part)}" for colour, line in change for part in wrap(line, WIDTH - 4))


def _hardware(host: HostPlan) -> str:
    if not host.gpus:
        return "no GPU" if host.cpus is None else f"{host.cpus:g} CPUs"
    memory = f" {host.gpu_memory_gib:.0f}G" if host.gpu_memory_gib else ""
    return f"{len(host.gpus)}x {host.gpu_model or 'GPU'}{memory}"


def _bars(host: HostPlan, letters: Mapping[str, str]) -> tuple[str, ...]:
    if not host.gpus:
        return (f"{host.cpus_taken:g} CPUs taken" if host.cpus_taken else "",)
    cells = [LEFT_OUT * CELL if host.left_out else _cell(gpu, letters) for gpu in host.gpus]
    lines = [cells[start : start + GPUS_PER_LINE] for start in range(0, len(cells), GPUS_PER_LINE)]
    return tuple("|" + "|".join(line) + "|" for line in lines)


def _cell(shares: Sequence[GpuShare], letters: Mapping[str, str]) -> str:
    """``AAAA``: a GPU that A has alone; ``AAB·``: a quarter of it is free. Whoever is on it is seen."""
    cells = ""
    for share in shares:
        width = max(1, round(share.share * CELL))
        cells += (letters[share.slug] * width)[: max(width, len(letters[share.slug]))]
    return cells[:CELL].ljust(CELL, FREE)


def _host_change(host: HostPlan) -> tuple[tuple[str, str], ...]:
    if host.left_out:
        return (("red", f"left out: {host.left_out}"),)
    if host.changes is None:
        return (("yellow", "unknown: not looked at in this run"),)
    return tuple(("yellow", change) for change in host.changes)


def _model(model: ModelPlan, letter: str, paint: _Paint) -> Iterator[str]:
    replicas = f"{model.placed}" if model.placed == model.min_replicas else f"{model.placed} of {model.min_replicas}"
    most = f", up to {model.max_replicas}" if model.max_replicas > model.min_replicas else ""
    if model.reachable < model.max_replicas:
        most += f" (room for {model.reachable})"
    change, *rest = wrap(_change(model), WIDTH - 48)
    yield f"{letter:>2}  {_cut(model.slug, 42):42}  {paint(_CHANGE_COLOUR[model.change], change)}"
    yield from (" " * 48 + paint(_CHANGE_COLOUR[model.change], part) for part in rest)
    where = f" on {_names(model.hosts)}" if model.hosts else ""
    if model.change == "stop":
        return
    yield from (f"    {part}" for part in wrap(f"{replicas}{most} x {model.resources}{where}", WIDTH - 4))
    if model.memory is not None:
        memory = model.memory
        sizes = [memory.weights_gib, memory.other_gib, memory.kv_cache_gib, memory.limit_gib]
        weights, other, cache, limit = (f"{size:.1f}" if size >= 1 else f"{size:.2g}" for size in sizes)
        parts = f"{weights} GiB weights + {other} other + {cache} KV cache = {limit}"
        yield f"    per {memory.unit} {parts}: {memory.contexts:g} x {memory.max_model_len} tokens"
    elif model.memory_unknown:
        yield from (f"    {part}" for part in wrap(f"memory not known: {model.memory_unknown}", WIDTH - 4))


def _change(model: ModelPlan) -> str:
    why = f": {', '.join(model.why)}" if model.why else ""
    without = ""
    if model.change == "restart":
        without = " (time not known)" if model.seconds_without is None else f" ({model.seconds_without:.0f} s without)"
    return f"{model.change}{why}{without}"


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"
