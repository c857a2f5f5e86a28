"""The planner decides without pyinfra, Ray and hosts: only its facts read from hosts."""

import subprocess
import sys

from tests.lab.lab import ROOT

PURE = sorted(
    str(path.relative_to(ROOT)).removesuffix(".py").replace("/", ".")
    for path in (ROOT / "roles/planner").rglob("*.py")
    if path.name not in ("facts.py", "__init__.py") and path.parent.name != "host"
)


def test_no_module_that_decides_imports_pyinfra_or_ray() -> None:
    assert "roles.planner.build" in PURE
    program = (
        f"import sys, {', '.join(PURE)}; print([name for name in ('pyinfra', 'ray', 'vllm') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stdout == "[]\n", result.stderr
