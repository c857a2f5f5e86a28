"""What a service tells systemd, and what it asks it. Runs on the host: standard library only.

The notification protocol is sd_notify(3): datagrams of VARIABLE=value lines to the socket in $NOTIFY_SOCKET.
"""

import os
import socket
import subprocess


def notify(*lines: str) -> None:
    """Send lines such as ``READY=1``; does nothing when the process was not started by systemd with Type=notify."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    if path.startswith("@"):  # an abstract socket
        path = "\0" + path[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        connection.sendto("\n".join(lines).encode(), path)


def ready(status: str) -> None:
    """The service is up; ``status`` is shown by ``systemctl status``."""
    notify("READY=1", f"STATUS={status}")


def status(text: str) -> None:
    """Show ``text`` in ``systemctl status`` and feed the watchdog: a status is a sign of life."""
    notify(f"STATUS={text}", "WATCHDOG=1")


def stopping(text: str) -> None:
    notify("STOPPING=1", f"STATUS={text}")


def pending_job(unit: str) -> str | None:
    """The type of the job systemd has queued or running for a unit (``restart``, ``stop``, ``start``), or None."""
    listing = subprocess.run(
        ["systemctl", "list-jobs", "--no-legend", "--plain", unit],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    for line in listing.stdout.splitlines():
        fields = line.split()  # JOB UNIT TYPE STATE
        if len(fields) >= 4 and fields[1] == unit:
            return fields[2]
    return None
