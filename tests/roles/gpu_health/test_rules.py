"""The rules: every check can find something, nothing makes them fail, and each finding can be acted on."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roles.gpu_health import rules, verdict, xids
from roles.gpu_health.document import Gpu, Health, Xid, parse
from roles.gpu_health.expected import Expected
from roles.gpu_health.gpu_checks import ray_name

WANTED = Expected(gpus=2, gpu_model="H100")
QUICK = settings(max_examples=60, deadline=None, database=None, derandomize=True)


def gpu(index: int, **changes: Any) -> Gpu:
    values: dict[str, Any] = dict.fromkeys(Gpu.model_fields)
    values |= {
        "index": index,
        "reasons": {},
        "name": "NVIDIA H100 PCIe",
        "uuid": f"GPU-{index}",
        "pci_address": f"0000:{index + 1:02x}:00.0",
        "memory_total_bytes": 80 * 2**30,
    }
    return Gpu(**{**values, **changes})


def health(gpus: list[Gpu] | None = None, **changes: Any) -> Health:
    gpus = [gpu(0), gpu(1)] if gpus is None else gpus
    device = {"kind": "gpu", "device_id": None, "driver": None, "responds": True, "link_width": 16}
    values: dict[str, Any] = {
        "at": "2026-11-21T18:00:00Z",
        "pci": [{**device, "address": f"0000:{each.index + 1:02x}:00.0", "link_width_max": 16} for each in gpus],
        "nouveau": False,
        "module_version": "580.95.05",
        "nvml": dict.fromkeys(("failure", "code", "hung", "library_version", "driver_version", "cuda_version")),
        "gpus": [each.model_dump() for each in gpus],
        "kernel_log": {"xids": [], "failure": None},
        "fabric_manager": None,
        "reboot_required": False,
    }
    return Health.model_validate({**values, **changes})


def found(seen: Health, expected: Expected = WANTED, phase: rules.Phase = rules.AFTER) -> dict[str, list[str]]:
    """Values of all that is not well, by check."""
    by_check: dict[str, list[str]] = {}
    for each in rules.findings(seen, expected, phase):
        if each.severity != "ok":
            by_check.setdefault(each.check, []).append(f"{each.where}: {each.value}")
    return by_check


def xid(number: int, text: str = "", address: str = "0000:02:00") -> dict[str, Any]:
    return {"pci_address": address, "xid": number, "count": 1, "first": None, "last": None, "text": text}


def logged(*errors: dict[str, Any]) -> Health:
    return health(kernel_log={"xids": list(errors), "failure": None})


def test_every_check_says_what_is_allowed_and_what_to_do() -> None:
    assert len({check.name for check in rules.CHECKS}) == len(rules.CHECKS)
    for check in rules.CHECKS:
        assert len(check.threshold) > 10, check.name
        assert len(check.remedy) > 10, check.name
        assert check.after != "install", f"{check.name}: after the driver step there is nobody left to install it"


def test_a_gpu_that_tells_nothing_but_its_identity_is_no_problem() -> None:
    assert found(health()) == {}


def test_an_ok_check_is_a_finding_too_and_those_that_block_come_first() -> None:
    every = rules.findings(health([gpu(0, persistence=False, remap_failed=True), gpu(1)]), WANTED, rules.AFTER)
    assert [each.check for each in every][:2] == ["remap_failed", "persistence"]
    assert {each.check for each in every} == {check.name for check in rules.CHECKS}


def test_more_gpus_than_declared_are_a_warning() -> None:
    assert found(health(), Expected(gpus=1, gpu_model=None)) == {"gpu_extra": ["host: 2 GPUs, 1 declared"]}


def test_mixed_models_are_found_without_a_declared_one() -> None:
    three = [gpu(0), gpu(1, name="NVIDIA L40S"), gpu(2)]
    assert found(health(three), Expected(gpus=3, gpu_model=None)) == {
        "gpu_model": ["GPU 1 (0000:02:00.0): is a L40S, most others are H100"]
    }


def test_a_gpu_with_less_memory_than_declared_is_found_and_the_usual_rounding_is_not() -> None:
    forty = [gpu(0), gpu(1, memory_total_bytes=40 * 2**30)]
    assert found(health(forty), Expected(gpus=2, gpu_model="H100", gpu_memory_gib=80)) == {
        "gpu_memory": ["GPU 1 (0000:02:00.0): has 40.0 GiB, declared are 80"]
    }
    as_nvml_says = [gpu(0, memory_total_bytes=81_559 * 2**20), gpu(1)]
    assert found(health(as_nvml_says), Expected(gpus=2, gpu_model="H100", gpu_memory_gib=80)) == {}


@pytest.mark.parametrize(
    ("name", "ray"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000"),
        ("NVIDIA GeForce RTX 5090", "GeForce-RTX-5090"),
    ],
)
def test_models_are_named_as_ray_names_them(name: str, ray: str) -> None:
    assert ray_name(name) == ray


def test_mig_may_be_wanted() -> None:
    wanted = Expected(gpus=2, gpu_model="H100", gpu_mig=True)
    assert found(health([gpu(0, mig=True, mig_pending=True), gpu(1, mig=False)]), wanted) == {
        "mig": ["GPU 1 (0000:02:00.0): MIG is off, expected on"]
    }


def test_links_of_pcie_cards_without_a_bridge_are_no_problem() -> None:
    assert found(health([gpu(0, nvlinks=[False] * 12), gpu(1, nvlinks=[False] * 12)])) == {}


def test_without_nvswitches_a_gpus_links_are_compared_with_its_neighbours() -> None:
    full, half, none = ([True] * 12, [True] * 6 + [False] * 6, [False] * 12)
    assert found(health([gpu(0, nvlinks=full), gpu(1, nvlinks=half)])) == {
        "nvlink_down": ["GPU 1 (0000:02:00.0): 6 NVLinks are up, another GPU has 12"]
    }
    assert found(health([gpu(0, nvlinks=full), gpu(1, nvlinks=none)])) == {
        "nvlink_absent": ["GPU 1 (0000:02:00.0): none of its NVLinks is up, other GPUs have some"]
    }


def test_a_slot_with_fewer_lanes_is_a_warning() -> None:
    seen = health()
    narrow = seen.pci[1].model_copy(update={"link_width": 4})
    assert found(seen.model_copy(update={"pci": [seen.pci[0], narrow]})) == {
        "pcie_width": ["host: GPU 0000:02:00.0 uses 4 of 16 PCIe lanes"]
    }


# Xids.


@pytest.mark.parametrize("number", sorted(xids.CRITICAL))
def test_a_critical_xid_blocks_and_says_why(number: int) -> None:
    (line,) = found(logged(xid(number, "what the kernel said")))["xid_critical"]
    assert line.startswith(f"GPU 1 (0000:02:00.0): Xid {number} ({xids.CRITICAL[number]}), once: ")


@pytest.mark.parametrize("number", [13, 31, 43, 45, 63, 92, 94, 121, 999])
def test_other_xids_are_warnings_also_those_nobody_knows(number: int) -> None:
    assert set(found(logged(xid(number)))) == {"xid"}


def test_of_nvlinks_errors_the_fatal_ones_block() -> None:
    assert set(found(logged(xid(145, "RLW_REMAP Nonfatal XC0 i0 Link 00 (0x1 0x2)")))) == {"xid"}
    assert set(found(logged(xid(145, "RLW_REMAP Fatal XC0 i0 Link 00 (0x1 0x2)")))) == {"xid_critical"}


def test_the_driver_asks_for_a_recovery_until_it_says_that_it_is_over() -> None:
    asked = "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)"
    over = "GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)"
    assert set(found(logged(xid(154, asked)))) == {"xid_critical"}
    assert set(found(logged(xid(154, over)))) == {"xid"}


def test_an_xid_of_a_gpu_that_is_gone_names_its_address() -> None:
    (line,) = found(logged(xid(79, address="0000:99:00")))["xid_critical"]
    assert line.startswith("GPU at 0000:99:00: Xid 79")


# Whatever comes from a host.

any_values = {
    name: st.none() | st.from_type(field.annotation)  # type: ignore[arg-type]
    for name, field in Gpu.model_fields.items()
    if name not in ("index", "reasons", "processes")
}
any_gpus = st.lists(
    st.builds(lambda values: gpu(0, **values), st.fixed_dictionaries({}, optional=any_values)), max_size=3
)
any_xids = st.lists(
    st.builds(xid, st.integers(0, 9999), st.text(max_size=40), st.text("0123456789abcdef:.", max_size=12)), max_size=3
)
any_expected = st.builds(Expected, gpus=st.integers(0, 16), gpu_model=st.sampled_from([None, "H100", "L4"]))


@QUICK
@given(any_gpus, any_xids, any_expected, st.booleans())
def test_no_document_makes_a_rule_fail_and_every_finding_is_one_line_with_a_remedy(
    gpus: list[Gpu], errors: list[dict[str, Any]], expected: Expected, fails: bool
) -> None:
    seen = health(gpus, kernel_log={"xids": errors, "failure": None})
    if fails:
        seen = seen.model_copy(update={"nvml": seen.nvml.model_copy(update={"failure": "GPU is lost"})})
    for phase in (rules.BEFORE, rules.AFTER):
        every = rules.findings(seen, expected, phase)
        assert {each.check for each in every} == {check.name for check in rules.CHECKS}
        assert all(each.remedy and each.threshold for each in every)
        assert all(str(each).isprintable() for each in every), "names and texts are other people's"


@QUICK
@given(any_gpus)
def test_after_the_driver_step_nothing_is_left_to_install(gpus: list[Gpu]) -> None:
    assert "install" not in {each.severity for each in rules.findings(health(gpus), WANTED, rules.AFTER)}


@QUICK
@given(any_gpus, st.integers(1, 8))
def test_declaring_more_gpus_than_there_are_always_blocks(gpus: list[Gpu], more: int) -> None:
    expected = Expected(gpus=len(gpus) + more, gpu_model=None)
    for phase in (rules.BEFORE, rules.AFTER):
        assert rules.blocking(rules.findings(health(gpus), expected, phase))


@QUICK
@given(st.text() | st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists).map(repr))
def test_what_is_no_document_is_one_sentence(text: str) -> None:
    reason = parse(text)
    assert isinstance(reason, str)
    assert reason.startswith("gpu_health printed what cannot be read (")


@QUICK
@given(st.data())
def test_a_document_with_one_part_of_another_kind_is_one_sentence(data: st.DataObject) -> None:
    whole = health().model_dump()
    key = data.draw(st.sampled_from(sorted(whole)))
    wrong = Health.model_construct(**{**whole, key: 1.5})
    assert isinstance(parse(wrong.model_dump_json(warnings=False)), str)


def test_a_newer_program_may_say_more() -> None:
    text = health().model_dump_json().replace('{"at"', '{"new": 1, "at"')
    assert isinstance(parse(text), Health)


# The verdict.


def of(seen: Health | str, override: dict[str, str] | None = None) -> verdict.Verdict:
    return verdict.of("gpu-03", seen, WANTED, rules.AFTER, override)


def test_a_host_that_is_well_is_let_in_without_a_word() -> None:
    assert (of(health()).blocked, of(health()).lines()) == (False, [])


def test_a_blocked_host_is_one_block_of_lines_with_value_threshold_and_remedy() -> None:
    verdict = of(health([gpu(0, ecc_uncorrectable=2), gpu(1, persistence=False)]))
    assert verdict.blocked
    head, first, second = verdict.lines()
    assert head == "gpu-03: blocked by the health gate"
    assert first == (
        "    block ecc_uncorrectable: GPU 0 (0000:01:00.0): 2 errors, 0 allowed; "
        "allowed: uncorrectable memory errors since the driver was loaded: `gpu_ecc_uncorrectable_max`. "
        "drain the host and reboot it, which retires the memory; if it comes back, have the GPU replaced"
    )
    assert second.startswith("    warn persistence: GPU 1 (0000:02:00.0): persistence mode is off")


def test_warnings_alone_let_the_host_in() -> None:
    verdict = of(health([gpu(0), gpu(1, persistence=False)]))
    assert not verdict.blocked
    assert verdict.lines()[0] == "gpu-03: the health gate lets it in and found"


def test_an_override_lets_the_host_in_and_still_shows_what_was_found() -> None:
    verdict = of(health([gpu(0, remap_failed=True), gpu(1)]), {"reason": "is replaced on Friday"})
    assert not verdict.blocked
    assert verdict.lines()[0] == (
        "gpu-03: the health gate would block it, and gpu_health_override lets it in: is replaced on Friday"
    )
    assert len(verdict.lines()) == 2


def test_a_host_that_could_not_be_looked_at_is_blocked() -> None:
    verdict = of("could not be run (the reason stands above)")
    assert verdict.blocked
    assert "could not be run" in verdict.lines()[1]


def test_xids_are_typed_as_the_document_says() -> None:
    assert xids.critical(Xid(**xid(79))) is not None
