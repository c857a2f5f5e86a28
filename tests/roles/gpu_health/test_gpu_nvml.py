"""What NVML answers, whatever it is, becomes a document that can be read."""

import contextlib
import io
import json
from types import SimpleNamespace
from typing import Any

import gpu_nvml
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roles.gpu_health.document import Gpu, Nvml

QUICK = settings(max_examples=40, deadline=None, database=None, derandomize=True)
FIELDS = ("domain", "bus", "device", "total", "used", "state", "status", "pid", "usedGpuMemory", "nvmlReturn", "value")

numbers = st.integers(-(2**63), 2**64) | st.floats() | st.sampled_from([0, 1, 2, 2**32 - 1])
scalars = st.none() | st.booleans() | numbers | st.text(max_size=200) | st.binary(max_size=20)
structures = st.builds(SimpleNamespace, **dict.fromkeys(FIELDS, scalars))
answers = scalars | structures | st.lists(scalars | structures, max_size=5)


class Garbage:
    """In the place of pynvml: constants are numbers, and every function answers anything or fails."""

    class NVMLError(Exception):
        value = 3

    class NVMLError_FunctionNotFound(NVMLError):
        value = 13

    def __init__(self, data: st.DataObject) -> None:
        self.data = data

    def __getattr__(self, name: str) -> Any:
        if name.startswith("NVML_"):
            return 18

        def function(*arguments: object) -> Any:
            answer = self.data.draw(answers | st.sampled_from([self.NVMLError(), self.NVMLError_FunctionNotFound()]))
            if isinstance(answer, Exception):
                raise answer
            return answer

        return function


def told(look: Any, *arguments: object) -> list[dict[str, Any]]:
    """The lines that the child process would print."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        look(*arguments)
    return [json.loads(line) for line in output.getvalue().splitlines()]


@QUICK
@given(st.data())
def test_no_answer_of_nvml_makes_it_fail_or_the_document_unreadable(data: st.DataObject) -> None:
    lines = told(gpu_nvml.look, Garbage(data))
    (system,) = [line["system"] for line in lines if "system" in line]
    Nvml.model_validate({"failure": None, **dict.fromkeys(Nvml.model_fields), **system})
    for line in lines:
        if "gpu" in line:
            gpu = line["gpu"]
            for process in gpu["processes"] or ():
                process.update(name=None, unit=None)
            found = Gpu.model_validate_json(json.dumps(gpu))
            silent = {field for field, value in found if value is None}
            assert silent == found.reasons.keys(), "null has a reason, and nothing else has"


@pytest.mark.parametrize("value", [True, None, "1", 1.5, -1, 2**70])
def test_a_number_is_a_number_within_its_limits(value: object) -> None:
    with pytest.raises(gpu_nvml.Nonsense, match="which cannot be true"):
        gpu_nvml.number(value)


def test_the_last_question_is_told_before_it_is_asked() -> None:
    said = told(gpu_nvml.ask, "GPU 3: temperature_c", lambda: 34)
    assert said == [{"asked": "GPU 3: temperature_c"}]
