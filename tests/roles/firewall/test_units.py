"""The firewall's units as they are rendered."""

from pathlib import Path

import pytest
from pyinfra.api.util import get_template

from tests.roles.exposure import THRESHOLD, exposure

UNITS = "templates/firewall/etc/systemd/system"


@pytest.mark.parametrize("unit", ["rayrack-firewall.service", "rayrack-firewall-keep.service"])
def test_systemd_finds_a_unit_of_root_s_closed(unit: str, tmp_path: Path) -> None:
    assert exposure(unit, get_template(f"{UNITS}/{unit}.j2").render(), tmp_path) <= THRESHOLD / 10
