"""Rotation of the cluster's token: may this run do it, and is an earlier one still to be finished. Pure: no pyinfra."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

FINISHED_FIRST = (
    "rotate_ray_token: an earlier rotation is not finished yet; this run finishes it and makes no other token. "
    "To have one more, give the same command again"
)


@dataclass(frozen=True)
class HostToken:
    """The digests of a host's token; None where there is none, or nothing tells."""

    file: str | None
    started_with: str | None
    """That of the file when the host's node was started."""


def unfinished(head: HostToken, workers: Iterable[HostToken]) -> bool:
    """Whether a host has, or its node runs with, another token than the head has now.

    Looked at, not remembered: whoever has replaced the token, and wherever that was cut short, a deploy finishes it.
    """
    others = [head.started_with, *(digest for each in workers for digest in (each.file, each.started_with))]
    return head.file is not None and any(digest not in (None, head.file) for digest in others)


def refusals(rack: Iterable[str], in_this_run: Collection[str]) -> Iterator[str]:
    """Why the token cannot be rotated now: a host that keeps the old one would be out of the cluster."""
    for name in rack:
        if name not in in_this_run:
            yield (
                f"rotate_ray_token: all hosts must take part, and this run leaves {name} out, which would keep the old "
                "token: rotate without --limit, --exclude and skip_unreachable, when the host is well again or no "
                "longer in the inventory"
            )
