"""The tiny models are complete, repeatable, and say only their own words."""

import json
from pathlib import Path

import pytest

from tests.lab import tiny_models

FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    tiny_models.STAMP,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = Path(tmp_path_factory.mktemp("models"))
    tiny_models.make_all(directory)
    return directory


def header_of(path: Path) -> tuple[dict[str, dict[str, object]], int]:
    """The JSON header of a safetensors file and the number of bytes after it."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), len(data) - 8 - length


@pytest.mark.parametrize("name", ["tiny-a", "tiny-b", "tiny-embed"])
def test_a_model_has_all_its_files(made: Path, name: str) -> None:
    assert {path.name for path in (made / name).iterdir()} == FILES


def test_the_weights_fill_their_file_without_gap_or_overlap(made: Path) -> None:
    header, size = header_of(made / "tiny-a/model.safetensors")
    del header["__metadata__"]
    ends = [0]
    for weight in header.values():
        start, end = weight["data_offsets"]  # type: ignore[misc]
        count = 1
        for dimension in weight["shape"]:  # type: ignore[attr-defined]
            count *= dimension
        assert (start, end) == (ends[-1], ends[-1] + 2 * count)
        ends.append(end)
    assert ends[-1] == size


def test_making_them_again_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    tiny_models.make_all(tmp_path)
    for path in made.glob("*/*"):
        assert (tmp_path / path.relative_to(made)).read_bytes() == path.read_bytes()


def test_a_model_that_is_there_is_left_alone(made: Path) -> None:
    before = (made / "tiny-a/config.json").stat()
    tiny_models.make_all(made)
    assert (made / "tiny-a/config.json").stat().st_ino == before.st_ino


def test_a_model_made_by_another_version_is_made_again(tmp_path: Path) -> None:
    tiny_models.make_all(tmp_path)
    (tmp_path / "tiny-b" / tiny_models.STAMP).write_text("another")
    (tmp_path / "tiny-b/config.json").write_text("broken")
    tiny_models.make_all(tmp_path)
    assert json.loads((tmp_path / "tiny-b/config.json").read_text())["model_type"] == "llama"


def test_every_word_is_one_token() -> None:
    vocab, merges = tiny_models.vocabulary(["red", "reed"])
    assert {"\u0120red", "\u0120reed"} <= set(vocab)
    assert sorted(vocab.values()) == list(range(len(vocab)))
    assert all(first in vocab and second in vocab for first, second in merges)


def test_only_words_can_be_said() -> None:
    model = tiny_models.MODELS[0]
    vocab, _ = tiny_models.vocabulary(model.words.split())
    size = len(vocab) + 7
    head = tiny_models.tensors(vocab, size, model)["lm_head.weight"][1]
    said = {token for token in range(size) if head[token * tiny_models.HIDDEN] != tiny_models.NEVER}
    assert said == {vocab["\u0120" + word] for word in model.words.split()}
