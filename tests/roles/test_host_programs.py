import hashlib
from pathlib import Path
from typing import Any

from pyinfra.api.deploy import deploy

from roles import host_programs
from tests.roles.fake_host import changes

FIND = "find /opt/rayrack/lib"


@deploy("Programs")
def put(programs: list[Path], modules: list[Path]) -> None:
    host_programs.install(name="put", programs=programs, modules=modules)


def sources(directory: Path) -> dict[str, list[Path]]:
    program, module = directory / "tell.py", directory / "words.py"
    program.write_text("#!/usr/bin/python3\nimport words\n")
    module.write_text("WORD = 1\n")
    return {"programs": [program], "modules": [module]}


def found(installed: dict[str, list[Path]], *, owner: str = "root:root", module_mode: str = "644") -> list[str]:
    """What the fact's command prints for a host that has these files, but for what is given."""
    (program,), (module,) = installed["programs"], installed["modules"]
    return [
        f"file /opt/rayrack/lib/tell.py {owner} 755",
        f"file /opt/rayrack/lib/words.py root:root {module_mode}",
        *(
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  /opt/rayrack/lib/{path.name}"
            for path in (program, module)
        ),
        "link /opt/rayrack/bin/tell /opt/rayrack/lib/tell.py",
    ]


def put_on(lines: list[str], wanted: dict[str, list[Path]]) -> Any:
    return changes(put, {FIND: lines}, **wanted).get("put")


def test_a_blank_host_gets_modules_before_the_program_that_imports_them_and_then_the_link(tmp_path: Path) -> None:
    change = put_on([], sources(tmp_path))
    assert list(change.files) == ["/opt/rayrack/lib/words.py", "/opt/rayrack/lib/tell.py"]
    assert change.commands == (
        "chown root:root /opt/rayrack/lib/words.py",
        "chmod 644 /opt/rayrack/lib/words.py",
        "chown root:root /opt/rayrack/lib/tell.py",
        "chmod 755 /opt/rayrack/lib/tell.py",
        "ln -s /opt/rayrack/lib/tell.py /opt/rayrack/bin/tell",
    )


def test_a_host_that_has_them_is_left_alone(tmp_path: Path) -> None:
    wanted = sources(tmp_path)
    assert put_on(found(wanted), wanted) is None


def test_only_the_file_that_differs_is_put(tmp_path: Path) -> None:
    wanted = sources(tmp_path)
    before = found(wanted)
    wanted["modules"][0].write_text("WORD = 2\n")
    assert list(put_on(before, wanted).files) == ["/opt/rayrack/lib/words.py"]


def test_another_owner_mode_or_link_is_mended(tmp_path: Path) -> None:
    wanted = sources(tmp_path)
    assert put_on(found(wanted, owner="mallory:root"), wanted) is not None
    assert put_on(found(wanted, module_mode="666"), wanted) is not None
    assert put_on([line.replace("bin/tell /opt/rayrack/lib", "bin/tell /tmp") for line in found(wanted)], wanted)
