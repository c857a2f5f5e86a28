"""The program that reads models' files on a host, with honest and with hostile files."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roles.planner.memory.host import model_files
from tests.roles.planner.memory import fixtures
from tests.roles.planner.memory.test_safetensors import JSON

CONFIG = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "vocab_size": 10}


def safetensors(tensors: dict[str, tuple[str, int]], **more: Any) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}, **more}
    at = 0
    for name, (dtype, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": [size], "data_offsets": [at, at + size]}
        at += size
    return packed(json.dumps(header).encode(), at)


def packed(header: bytes, data: int) -> bytes:
    return len(header).to_bytes(8, "little") + header + bytes(data)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(CONFIG))
    return directory


def look(directory: Path) -> dict[str, Any]:
    return model_files.look(str(directory), "/nowhere")


def test_weights_are_summed_over_files_and_by_format(model: Path) -> None:
    (model / "a.safetensors").write_bytes(safetensors({"x": ("BF16", 100), "y": ("F32", 40)}))
    (model / "b.safetensors").write_bytes(safetensors({"z": ("BF16", 60)}))
    found = look(model)
    assert found["weights"] == {
        "total": 200,
        "by_dtype": {"BF16": 160, "F32": 40},
        "unused": 0,
        "format": "safetensors",
    }
    assert (found["config"], found["reasons"]) == (CONFIG, [])


def test_layers_behind_the_last_are_not_loaded(model: Path) -> None:
    tensors = {"model.layers.1.x": ("BF16", 10), "model.layers.2.x": ("BF16", 30), "vision.layers.9.x": ("BF16", 5)}
    (model / "a.safetensors").write_bytes(safetensors(tensors))
    assert look(model)["weights"]["unused"] == 30


def test_the_index_says_which_files_belong_to_the_model(model: Path) -> None:
    (model / "model.safetensors").write_bytes(safetensors({"x": ("BF16", 100)}))
    (model / "other.safetensors").write_bytes(safetensors({"x": ("BF16", 7)}))
    index = {"metadata": {"total_size": 100}, "weight_map": {"x": "model.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert look(model)["weights"]["total"] == 100


def test_while_files_are_downloaded_the_index_says_how_large_they_will_be(model: Path) -> None:
    index = {"metadata": {"total_size": 100}, "weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert look(model)["weights"]["total"] == 100
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index["weight_map"]}))
    assert look(model)["reasons"] == [f"{model}: 2 of 2 files of weights are not there"]


@pytest.mark.parametrize(
    ("name", "kind"), [("pytorch_model-1.bin", "pytorch"), ("m.Q4.gguf", "gguf"), ("x.pth", "pytorch")]
)
def test_other_formats_are_as_large_as_their_files(model: Path, name: str, kind: str) -> None:
    (model / name).write_bytes(bytes(123))
    assert (look(model)["weights"]["total"], look(model)["weights"]["format"]) == (123, kind)


def test_a_copy_in_mistrals_own_format_is_not_counted_twice(model: Path) -> None:
    (model / "consolidated.safetensors").write_bytes(safetensors({"x": ("BF16", 100)}))
    (model / "model.safetensors").write_bytes(safetensors({"x": ("BF16", 100)}))
    assert look(model)["weights"]["total"] == 100


def test_a_hub_id_is_looked_up_in_the_cache_at_its_main_revision(tmp_path: Path) -> None:
    cache = tmp_path / "hub" / "models--Qwen--Qwen3-8B"
    for revision in ("aaa", "bbb"):
        (cache / "snapshots" / revision).mkdir(parents=True)
        (cache / "snapshots" / revision / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": len(revision)}))
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("aaa")
    blob = cache / "blob"
    blob.write_bytes(safetensors({"x": ("BF16", 100)}))
    (cache / "snapshots" / "aaa" / "model.safetensors").symlink_to(blob)
    found = model_files.look("Qwen/Qwen3-8B", str(tmp_path))
    assert found["path"] == str(cache / "snapshots" / "aaa")
    assert found["weights"]["total"] == 100
    assert model_files.look("Qwen/Other", str(tmp_path))["reasons"] == ["Qwen/Other: is not on this host"]


def test_the_program_prints_one_line_for_all_sources(model: Path) -> None:
    (model / "a.safetensors").write_bytes(safetensors({"x": ("BF16", 100)}))
    command = [sys.executable, "-ISc", Path(model_files.__file__).read_text(), "/nowhere", str(model), "/absent", "a/b"]
    (line,) = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.splitlines()
    found = json.loads(line)
    assert found[str(model)]["weights"]["total"] == 100
    assert found["/absent"]["reasons"] == ["/absent: is not on this host"]
    assert found["a/b"]["reasons"] == ["a/b: is not on this host"]


@pytest.mark.parametrize("name", fixtures.NAMES)
def test_what_is_printed_of_a_config_says_the_same_as_the_config(name: str) -> None:
    model = fixtures.published(name)
    more = {**model.config, "id2label": {"0": "x"}, "auto_map": {}, "architectures": ["X"], "quantization_bits": [1]}
    printed = json.loads(json.dumps(model_files.trimmed(more)))
    assert fixtures.model_config.shape(printed, name) == model.shape


HEADER = b'{"x":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is cut off"),
        (b"\x01\x00", "is cut off"),
        ((100).to_bytes(8, "little") + b"{}", "is cut off"),
        (b"\xff" * 100, "is no safetensors file"),
        (packed(HEADER, 1), "is cut off"),
        (packed(HEADER, 3), "its header is not that of its tensors"),
        (packed(b"{", 0), "is not usable JSON"),
        (packed(b"{}", 0), "its files of weights are empty"),
        (packed(b"\xff\xfe", 0), "is not usable JSON"),
        (packed(b"[" * 1_000_000, 0), "nested too deeply"),
        (packed(b'{"a":' * 1_000_000, 0), "nested too deeply"),
        (packed(b'{"x":1,"x":1}', 0), "is not usable JSON"),
        (packed(b'{"x":' + b"1" * 10_000 + b"}", 0), "is not usable JSON"),
        (packed(b'{"x":{"dtype":"BF16","shape":[1],"data_offsets":[-2,0]}}', 0), "has a tensor without dtype"),
        (packed(b'{"x":{"dtype":"BF16","shape":[1],"data_offsets":[2,0]}}', 2), "has a tensor without dtype"),
        (packed(b'{"x":{"dtype":"BF16","shape":[1],"data_offsets":[0,1e9]}}', 2), "has a tensor without dtype"),
        (packed(b'{"x":{"dtype":["BF16"],"data_offsets":[0,2]}}', 2), "has a tensor without dtype"),
        (
            packed(b'{"x":{"dtype":"U8","data_offsets":[0,4]},"y":{"dtype":"U8","data_offsets":[2,6]}}', 6),
            "its tensors overlap or leave gaps",
        ),
    ],
)
def test_a_hostile_file_is_a_reason(model: Path, content: bytes, reason: str) -> None:
    (model / "a.safetensors").write_bytes(content)
    found = look(model)
    assert found["weights"] is None
    (line,) = found["reasons"]
    assert reason in line


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not usable JSON"),
        (b"[1]", "is no JSON object"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b" " * (4 * 2**20 + 1), "and may have 4194304"),
    ],
)
def test_a_hostile_config_is_a_reason(model: Path, content: bytes, reason: str) -> None:
    (model / "config.json").write_bytes(content)
    (model / "a.safetensors").write_bytes(safetensors({"x": ("BF16", 2)}))
    found = look(model)
    assert (found["config"], found["weights"]["total"]) == (None, 2)
    assert reason in found["reasons"][0]


def test_what_is_no_file_is_not_opened(model: Path) -> None:
    (model / "config.json").unlink()
    (model / "config.json").symlink_to(model / "config.json")  # a loop
    os.mkfifo(model / "a.safetensors")  # opening it would wait for a writer
    reasons = look(model)["reasons"]
    assert "Too many levels of symbolic links" in reasons[0]
    assert "is no regular file" in reasons[1]
    (model / "a.safetensors").unlink()
    (model / "a.safetensors").symlink_to("/dev/zero")
    assert "is no regular file" in look(model)["reasons"][1]


def test_an_index_does_not_lead_out_of_its_directory(model: Path) -> None:
    index = {"weight_map": {"x": "../../etc/passwd"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert look(model)["weights"] is None


def test_thousands_of_files_are_read_within_bounds(model: Path) -> None:
    one = safetensors({f"t{index}": ("U8", 1) for index in range(20)})
    for index in range(3000):
        (model / f"{index}.safetensors").write_bytes(one)
    start = time.monotonic()
    assert look(model)["weights"]["total"] == 60_000
    assert time.monotonic() - start < 20
    for index in range(3000, 6000):
        (model / f"{index}.safetensors").touch()
    assert "has 6000 files of weights and may have 5000" in look(model)["reasons"][0]


def test_of_headers_that_are_too_many_together_only_the_sizes_are_taken(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_files, "HEADER_PARSED_BYTES", 2000)
    for index in range(10):
        (model / f"{index}.safetensors").write_bytes(safetensors({f"t{index}": ("U8", 1) for index in range(20)}))
    assert look(model)["weights"] == {"total": 200, "by_dtype": {}, "unused": 0, "format": "safetensors"}


def test_a_large_header_is_not_parsed_and_takes_no_memory(model: Path) -> None:
    """A sparse file: a header of 90 MB that would be gigabytes of Python objects."""
    with (model / "a.safetensors").open("wb") as file:
        file.write((90_000_000).to_bytes(8, "little"))
        file.truncate(8 + 90_000_000 + 1000)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (512 * 2**20,) * 2)

    command = [sys.executable, "-ISc", Path(model_files.__file__).read_text(), "/nowhere", str(model)]
    output = subprocess.run(command, capture_output=True, check=True, timeout=20, preexec_fn=limited).stdout
    assert json.loads(output)[str(model)]["weights"] == {
        "total": 1000,
        "by_dtype": {},
        "unused": 0,
        "format": "safetensors",
    }


FEW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)


@FEW
@given(header=JSON | st.dictionaries(st.text(max_size=4), JSON, max_size=3), data=st.integers(0, 50))
def test_whatever_a_header_holds_the_answer_is_a_size_or_a_reason(model: Path, header: object, data: int) -> None:
    (model / "a.safetensors").write_bytes(packed(json.dumps(header).encode(), data))
    found = look(model)
    assert (found["weights"] is None) == bool(found["reasons"])


@FEW
@given(content=st.binary(max_size=100))
def test_whatever_a_file_holds_the_answer_is_a_size_or_a_reason(model: Path, content: bytes) -> None:
    for name in ("a.safetensors", "config.json", "model.safetensors.index.json"):
        (model / name).write_bytes(content)
    assert look(model)["reasons"]


@FEW
@given(index=JSON | st.fixed_dictionaries({"weight_map": JSON, "metadata": JSON}), config=JSON)
def test_whatever_index_and_config_hold_the_answer_can_be_printed(model: Path, index: object, config: object) -> None:
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    (model / "config.json").write_text(json.dumps(config))
    json.dumps(look(model))
