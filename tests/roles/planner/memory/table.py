"""The tables of docs/planner/memory.md: what the plan computes against what is published.

``python -m tests.roles.planner.memory.table`` writes them between the marker lines; a test says when it is due.
"""

from pathlib import Path

from roles.model_serving.model import Model
from roles.planner.memory import check as memory
from roles.planner.memory import hardware, kv_cache, weights
from roles.planner.memory.hardware import GIB
from tests.roles.planner.memory import fixtures

PAGE = Path(__file__).parents[4] / "docs" / "planner" / "memory.md"
BEGIN = "<!-- made by `python -m tests.roles.planner.memory.table`: do not edit -->\n"
END = "<!-- end of the tables -->\n"


def models() -> str:
    """Sizes of weights and of a token's KV cache, for each well-known model."""
    rows = [
        "| model | published weights, bytes | computed | error | KV cache of a token, bytes | published | error |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in fixtures.NAMES:
        model = fixtures.published(name)
        shape = model.shape
        found = weights.computed(shape)
        assert found is not None
        token = ""
        if shape.has_kv_cache:
            layer = kv_cache.layer_token_bytes(shape, "auto", 2, 1)
            assert layer is not None
            token = _number(layer * shape.num_hidden_layers)
        rows.append(
            f"| {model.hub_id} | {_number(model.weights_bytes)} | {_number(found.total)} "
            f"| {_error(found.total, model.weights_bytes)} | {token} "
            f"| {_number(model.kv_token_bytes) if model.kv_token_bytes else ''} "
            f"| {_error(layer * shape.num_hidden_layers, model.kv_token_bytes) if model.kv_token_bytes else ''} |"
        )
    notes = [f"{model.hub_id}: {model.note}." for model in map(fixtures.published, fixtures.NAMES) if model.note]
    return "\n".join([*rows, "", *notes]) + "\n"


def starts() -> str:
    """What engines reported when they started."""
    rows = [
        "| engine | GPU | weights, GiB | computed | beside them | computed | KV cache | computed | error, of the GPU |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for start in fixtures.starts():
        gpu = hardware.gpu(start.gpu_model, start.gpu_memory_gib)
        model = Model.model_validate({"model_id": "m", **start.fields})
        found = memory.check(model, start.model.shape, None, gpu)
        assert gpu is not None
        sizes = (found.weights_bytes or 0, found.overhead_bytes or 0, found.kv_available_bytes or 0)
        held, beside, cache = (size / GIB for size in sizes)
        fields = ", ".join(f"{name} {value}" for name, value in start.fields.items())
        rows.append(
            f"| {start.model.hub_id}, vLLM {start.vllm}: {fields} | {gpu.name} | {start.weights_gib} | {held:.2f} "
            f"| {start.overhead_gib} | {beside:.2f} | {start.kv_gib} | {cache:.2f} "
            f"| {(cache - start.kv_gib) / (gpu.total_bytes / GIB):+.1%} |"
        )
    return "\n".join(rows) + "\n"


def page(text: str) -> str:
    """The page with its tables made anew."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the lines {BEGIN.strip()} and {END.strip()}")
    return f"{before}{begin}\n{models()}\n{starts()}\n{end}{after}"


def _number(value: int) -> str:
    return f"{value:,}".replace(",", " ")


def _error(computed: int, published: int) -> str:
    return f"{(computed - published) / published:+.1%}" if computed != published else "0"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}")
