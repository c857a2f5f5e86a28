"""What a single setting may hold. Each type refuses with one line that says what is right."""

import ipaddress
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from roles.field_errors import shown

# 16 TiB: more memory than a host has.
MEMORY_MAX_MIB = 16 * 2**20
# What systemd raises fs.nr_open to at boot; the kernel itself takes no more than twice that.
NOFILE_MAX = 1_073_741_816
# Directories of the system, all below them included: nothing of ours belongs there, and one of ours is chowned.
SYSTEM_TREES = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/root", "/run", "/sbin"),
    *("/sys", "/usr", "/var/run", "/opt/rayrack"),
)
# Directories that others share: one of ours may lie in them, but may not be one of them.
SHARED_DIRECTORIES = frozenset(
    {
        *("/var/backups", "/var/cache", "/var/lib", "/var/local", "/var/lock", "/var/log", "/var/mail", "/var/opt"),
        *("/var/spool", "/var/tmp", "/var/lib/rayrack"),  # noqa: S108 - refused
    }
)


def _is_plain(path: str) -> bool:
    """Without ``.``, ``..`` and empty parts: then one path has one spelling, and comparing texts compares places."""
    return not {"", ".", ".."} & set(path.removeprefix("/").split("/"))


def _plain_path(value: str) -> str:
    path = value.removesuffix("/")
    if not _is_plain(path):
        raise ValueError(f"must be a path without `.`, `..` and `//`, not {shown(value)}")
    return path


def _own_directory(path: str) -> str:
    """A directory that the service user will own."""
    if len(PurePosixPath(path).parts) < 3:
        raise ValueError(f"must be a directory of its own, at least two deep as /data/rayrack, not {shown(path)}")
    tree = next((tree for tree in SYSTEM_TREES if PurePosixPath(path).is_relative_to(tree)), None)
    if tree or path in SHARED_DIRECTORIES:
        where = f"a part of {tree}" if tree and tree != path else "a directory of the system's or of others"
        raise ValueError(f"must be a directory of its own, not {path}, {where}: the user rayrack will own it")
    return path


def _image(path: str) -> str:
    tree = next((tree for tree in SYSTEM_TREES if PurePosixPath(path).is_relative_to(tree)), None)
    if tree:
        raise ValueError(f"must not lie in {tree}, which is the system's")
    return path


def _url(schemes: str, characters: str, wanted: str) -> Callable[[str], str]:
    """Checks a URL. It is not shown when it is wrong, since it may hold a password."""
    pattern = re.compile(rf"(?:{schemes})[{characters}]+")

    def check(value: str) -> str:
        if not pattern.fullmatch(value) or not _has_host(value):
            raise ValueError(f"must be {wanted}; of a password, write characters like # and spaces as %23 and %20")
        return value

    return check


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "file" or (bool(parts.hostname) and parts.port != 0)
    except ValueError:  # a port that is no number, or brackets that do not match
        return False


# The characters of RFC 3986 but "'", ";" and "#", which mean something where these URLs are written.
_URL_CHARACTERS = r"A-Za-z0-9._~:/?@!$&()*+,=%\-"


def _no_proxy(value: str) -> str:
    """Names, domains, addresses and networks as pip and uv understand them; apt takes full host names only."""
    for entry in filter(None, (part.strip(" ") for part in value.split(","))):
        if not re.fullmatch(r"\*|\[[0-9A-Fa-f:]+\]|(?:\*?\.)?[A-Za-z0-9_:][A-Za-z0-9._:-]*(?:/\d{1,3})?", entry):
            raise ValueError(f"must be names and addresses with commas between them, not {shown(value)}")
    return value


def _address(value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise ValueError(f"must be an IPv4 or IPv6 address, not {shown(value)}") from None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        raise ValueError(f"must be an address without %{address.scope_id}, which no other host knows")
    if address.is_multicast:
        raise ValueError(f"must be an address of one host, not {shown(value)} (multicast)")
    return address


def _node_ip(value: str) -> str:
    address = _address(value)
    if address.is_unspecified:
        raise ValueError(f"must be the address that other hosts reach this one at, not {shown(value)}")
    return str(address)


def _bind_address(value: str) -> str:
    return value if value == "*" else str(_address(value))


def _certificate_name(value: str) -> str:
    if is_certificate_name(value):
        return value
    raise ValueError(f"must be a name of DNS, as gpu-01.example.org, or an address, not {shown(value)}")


def is_certificate_name(value: str) -> bool:
    """Whether a certificate can name this: an address, or labels of a name of DNS."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        label = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
        return len(value) <= 253 and re.fullmatch(rf"(\*\.)?{label}(\.{label})*", value) is not None
    return "%" not in value  # an address of one link, which no certificate has


def _limit_memlock(value: str) -> str:
    if not re.fullmatch(r"infinity|\d{1,15}|\d{1,9}[KMG]|\d{1,3}T", value):
        raise ValueError(f"must be `infinity`, or bytes as 67108864, or as 64M or 512G, not {shown(value)}")
    return value


def port_range(value: str) -> tuple[int, int]:
    """``"20000-20999"`` as two numbers, both included."""
    low, high = value.split("-")
    return int(low), int(high)


def _at_least(count: int) -> Callable[[str], str]:
    def check(value: str) -> str:
        low, high = port_range(value)
        if not 1024 <= low < high <= 65535:
            raise ValueError("needs LOW-HIGH with 1024 <= LOW < HIGH <= 65535")
        if high - low + 1 < count:
            raise ValueError(f"must hold at least {count} ports, not {high - low + 1}")
        return value

    return check


_AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._/+-]+$"), AfterValidator(_plain_path)]
_PortRange = Annotated[str, StringConstraints(pattern=r"^\d{1,5}-\d{1,5}$")]

# A path that is only read, or written by root.
AbsolutePath = _AbsolutePath
Directory = Annotated[_AbsolutePath, AfterValidator(_own_directory)]
ImageFile = Annotated[_AbsolutePath, AfterValidator(_image)]
AnyPort = Annotated[int, Field(ge=1, le=65535)]
# Ports below 1024 are root's, and services run as an ordinary user; the gateway's unit has a capability for them.
Port = Annotated[int, Field(ge=1024, le=65535)]
# One for each process of Ray's: a node has some for each CPU.
WorkerPorts = Annotated[_PortRange, AfterValidator(_at_least(100))]
# One for each replica on a host.
ReplicaPorts = Annotated[_PortRange, AfterValidator(_at_least(10))]
Gib = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
NodeIp = Annotated[str, AfterValidator(_node_ip)]
CertificateName = Annotated[str, AfterValidator(_certificate_name)]
BindAddress = Annotated[str, AfterValidator(_bind_address)]
# A number beside `--data` or in a file comes as one.
LimitMemlock = Annotated[
    str, BeforeValidator(lambda value: str(value) if type(value) is int else value), AfterValidator(_limit_memlock)
]
NoProxy = Annotated[str, AfterValidator(_no_proxy)]
HttpUrl = Annotated[
    str,
    AfterValidator(_url("https?://", rf"{_URL_CHARACTERS}\[\]", "an http or https URL, as http://proxy.example:3128")),
]
# apt's sources.list gives brackets a meaning of their own.
RepositoryUrl = Annotated[
    str, AfterValidator(_url("https?://|file:/", _URL_CHARACTERS, "an http, https or file URL without brackets"))
]
