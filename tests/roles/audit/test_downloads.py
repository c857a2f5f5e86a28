"""Whatever a deploy downloads is known by a hash or a signature: docs/audit.md lists it, tests of the roles prove it at
work. This is the net under them: a new download without either has to come past here."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
TEXTS = {
    path.relative_to(ROOT): path.read_text()
    for folder in ("roles", "templates", "deploy", "inventories")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".j2")
}
SIGNATURES_OFF = (
    r"trusted=yes|Trusted: *yes|allow-?unauthenticated|AllowInsecure|Verify-Peer|no-check-certificate|verify=False"
    r"|--trusted-host|curl -k|--insecure|_create_unverified_context|CERT_NONE"
)
# How anything is fetched to a host, or for one.
FETCHES = r"apt-helper download-file|\bwget\b|\"pip\", \"download\"|bin/pip\"|urlretrieve|urlopen|\"pip\", \"sync\""


def files_with(pattern: str) -> dict[str, str]:
    return {str(path): text for path, text in TEXTS.items() if re.search(pattern, text)}


def test_nothing_of_ours_turns_a_signature_or_a_certificate_off() -> None:
    # Every file has a hash, so an index of one's own may be plain HTTP, which pip refuses unless told.
    assert set(files_with(SIGNATURES_OFF + "|PIP_TRUSTED_HOST")) == {
        "roles/serving_runtime/host/package_tools.py",
    }
    assert not files_with(SIGNATURES_OFF)


def test_every_source_of_apt_names_the_one_key_that_it_is_signed_with() -> None:
    sources = {path: text for path, text in TEXTS.items() if "sources.list.d" in str(path)}
    assert [path.name for path in sources] == ["rayrack-nvidia.sources.j2"]
    assert all(re.search(r"^Signed-By: \{\{ keyring \}\}$", text, re.MULTILINE) for text in sources.values())
    assert not files_with(r"apt-key|trusted\.gpg")


def test_what_fetches_something_is_known_here_with_what_it_checks() -> None:
    checks = {
        "roles/nvidia_driver/apt.py": "KeyFingerprints",
        "roles/serving_runtime/host/install_runtime.py": "--require-hashes",
        # On the operator's side: a pin's line has its hashes, and pip then wants them of all.
        "roles/serving_runtime/pip_download.py": "DO NOT MATCH THE HASHES",
    }
    found = files_with(FETCHES)
    assert set(found) == set(checks)
    assert [path for path, check in checks.items() if check not in found[path]] == []


def test_both_ways_to_wheels_want_a_hash_of_each() -> None:
    text = TEXTS[Path("roles/serving_runtime/host/install_runtime.py")]
    commands = re.findall(r"\"(?:download|sync)\".*?(?=self\.runner\.run)", text, re.DOTALL)
    assert len(commands) == 2
    assert all('"--require-hashes"' in command for command in commands)
