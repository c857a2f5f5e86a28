"""The page docs/threat-model.md names tests, commands, settings and ports: they exist, and every claim has one."""

import ast
import re
from pathlib import Path

import pytest

from roles.model_serving.model import Model
from roles.settings import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/threat-model.md").read_text()
NAMED = sorted(set(re.findall(r"`([^`\n]+)`", TEXT)))
TESTS = [name for name in NAMED if name.startswith("tests/") and "..." not in name]
PROGRAMS = sorted(set(re.findall(r"/opt/rayrack/bin/(\w+)", TEXT)))
TARGETS = sorted(set(re.findall(r"\bmake ([a-z-]+)", " ".join(NAMED))))
UNITS = sorted(set(re.findall(r"\brayrack-(?!gateway/)[a-z]+\b", " ".join(NAMED))))
# Words of vLLM, of the access to Ray, and fields of an API key: not settings of ours.
OF_OTHERS = {"trust_remote_code", "allowed_media_domains", "cache_salt", "enable_prefix_caching"}
OF_OTHERS |= {
    "requests_per_minute",
    "enable_log_requests",
    "structured_outputs",
    "response_format",
    "top_k",
    "invalid_value",
}


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def rows(heading: str) -> list[list[str]]:
    """The cells of the tables below a heading, without their own headings."""
    section = re.split(rf"^#+ {re.escape(heading)}$", TEXT, flags=re.MULTILINE)[1]
    section = re.split(r"^##+ ", section, flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    tables = [line.strip("|").split(" | ") for line in lines if not line.startswith("|---")]
    return [row for row in tables if row[-1].strip() != "how to check"]


@pytest.mark.parametrize("name", TESTS)
def test_a_test_that_the_page_names_exists(name: str) -> None:
    path, _, function = name.partition("::")
    assert (ROOT / path).exists()
    if function:
        assert function in functions(ROOT / path)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_the_page_names_is_put_on_hosts(name: str) -> None:
    assert list(ROOT.glob(f"roles/*/host/{name}.py"))


@pytest.mark.parametrize("name", TARGETS)
def test_a_make_target_that_the_page_names_exists(name: str) -> None:
    assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_or_user_that_the_page_names_exists(name: str) -> None:
    assert list(ROOT.glob(f"templates/*/etc/systemd/system/{name}.service.j2"))


def test_a_setting_that_the_page_names_exists() -> None:
    names = {name for name in NAMED if re.fullmatch(r"[a-z]+(_[a-z]+)+", name)}
    assert names - OF_OTHERS <= set(Settings.model_fields) | set(Model.model_fields)


def test_every_port_of_ours_is_a_door() -> None:
    doors = " ".join(row[0] for row in rows("The doors"))
    ports = {str(field.default) for name, field in Settings.model_fields.items() if re.search("_ports?$", name)}
    assert not [port for port in ports if port[0].isdigit() and not re.search(rf"\b{port}\b", doors)]


@pytest.mark.parametrize("heading", ["The network", "The gateway", "Inside", "ShadowRay"])
def test_every_claim_says_how_to_check_it(heading: str) -> None:
    assert rows(heading)
    for row in rows(heading):
        assert "`" in row[-1], row


def test_every_link_leads_somewhere() -> None:
    headings = {re.sub(r"[^a-z -]", "", line.lower()).strip().replace(" ", "-") for line in TEXT.splitlines()}
    for link in re.findall(r"\]\(([^)]+)\)", TEXT):
        path, _, anchor = link.partition("#")
        if path.startswith("https:"):
            continue
        assert (ROOT / "docs" / path).exists()
        assert path or anchor in headings
