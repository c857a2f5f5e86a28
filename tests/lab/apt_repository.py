"""A small apt repository with a key of its own: packages with production's names and versions, and little in them.

It has the form of NVIDIA's repositories: no suites, all files in one directory.
"""

import gzip
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

IDENTITY = "rayrack test repository <test@rayrack.invalid>"


@dataclass(frozen=True)
class Deb:
    """A package. ``fields`` are more lines of its control file (deb-control(5)); ``files`` are texts by path."""

    name: str
    version: str
    fields: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)
    """``postinst`` and its like, for sh."""

    def build(self, directory: Path) -> Path:
        """Build it with dpkg-deb; the file that was made."""
        tree = directory / f"{self.name}_{self.version}.tree"
        control = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": "all",
            "Maintainer": IDENTITY,
            "Description": f"{self.name} of rayrack's tests",
            **self.fields,
        }
        _write(tree / "DEBIAN/control", "".join(f"{key}: {value}\n" for key, value in control.items()))
        for name, text in self.scripts.items():
            _write(tree / "DEBIAN" / name, f"#!/bin/sh\nset -e\n{text}\n")
            (tree / "DEBIAN" / name).chmod(0o755)
        for path, text in self.files.items():
            _write(tree / path.lstrip("/"), text)
        made = directory / f"{self.name}_{self.version.replace(':', '%3a')}_all.deb"
        # -Znone: quicker to make, and nothing in it is worth packing.
        _run("dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(made))
        shutil.rmtree(tree)
        return made


@dataclass(frozen=True)
class AptRepository:
    """A directory that apt can use as ``file:`` repository, and its key."""

    directory: Path
    key: Path
    """The public key, armored."""

    @classmethod
    def build(cls, directory: Path, packages: Iterable[Deb]) -> "AptRepository":
        """Make ``directory`` hold these packages, their index, and its signature. gpg makes a key for it."""
        directory.mkdir(parents=True)
        for package in packages:
            package.build(directory)
        index = _run("dpkg-scanpackages", "--multiversion", ".", cwd=directory).encode()
        (directory / "Packages").write_bytes(index)
        (directory / "Packages.gz").write_bytes(gzip.compress(index))
        (directory / "Release").write_text(_release(directory, ("Packages", "Packages.gz")))
        key = directory / "key.asc"
        _sign(directory, key)
        return cls(directory, key)


def _release(directory: Path, names: Iterable[str]) -> str:
    sums = []
    for name in names:
        data = (directory / name).read_bytes()
        sums.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}")
    return "\n".join((f"Origin: {IDENTITY}", f"Date: {formatdate(usegmt=True)}", "SHA256:", *sums, ""))


def _sign(directory: Path, key: Path) -> None:
    # Not below the directory: the path of gpg-agent's socket may have 107 bytes (unix(7)).
    home = Path(tempfile.mkdtemp(prefix="gpg-"))
    gpg = ("gpg", "--homedir", str(home), "--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback")
    try:
        _run(*gpg, "--passphrase", "", "--quick-generate-key", IDENTITY, "rsa2048", "sign", "1d")
        _run(*gpg, "--armor", "--output", str(key), "--export", IDENTITY)
        _run(*gpg, "--clearsign", "--output", str(directory / "InRelease"), str(directory / "Release"))
    finally:
        _run("gpgconf", "--homedir", str(home), "--kill", "all")
        # The agent takes its sockets away by itself, perhaps just before they would be removed here.
        shutil.rmtree(home, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _run(*command: str, cwd: Path | None = None) -> str:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {result.returncode}: {result.stderr.strip()}")
    return result.stdout
