"""The textfile for Prometheus."""

import os
from pathlib import Path

import clean_ray_metrics
import pytest

VALUES = {name: 0.5 for name in clean_ray_metrics.HELP if name != "rayrack_clean_ray_sessions"}


def test_every_metric_has_a_meaning_a_type_and_a_value() -> None:
    lines = clean_ray_metrics.text("/tmp/ray", VALUES, {"in_use": 1, "young": 0}).splitlines()
    assert lines[:3] == [
        "# HELP rayrack_ray_disk_used_ratio Used share of the file system of Ray's directory, as Ray counts it.",
        "# TYPE rayrack_ray_disk_used_ratio gauge",
        'rayrack_ray_disk_used_ratio{directory="/tmp/ray"} 0.5',
    ]
    assert lines[-2:] == [
        'rayrack_clean_ray_sessions{directory="/tmp/ray",state="in_use"} 1',
        'rayrack_clean_ray_sessions{directory="/tmp/ray",state="young"} 0',
    ]


def test_a_path_with_quotes_stays_one_label() -> None:
    assert r'{directory="/a\"b\\c"} 0.5' in clean_ray_metrics.text('/a"b\\c', VALUES, {})


def test_the_file_is_replaced_whole_and_readable_by_the_node_exporter(tmp_path: Path) -> None:
    file = tmp_path / "rayrack_clean_ray.prom"
    umask = os.umask(0o077)
    try:
        clean_ray_metrics.write(tmp_path, "one\n")
        reader = file.open()
        clean_ray_metrics.write(tmp_path, "two\n")
    finally:
        os.umask(umask)
    with reader:
        assert reader.read() == "one\n"
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("two\n", 0o644)
    assert list(tmp_path.iterdir()) == [file]


def test_a_failure_leaves_nothing_half_done(tmp_path: Path) -> None:
    (tmp_path / "rayrack_clean_ray.prom").mkdir()
    with pytest.raises(OSError, match="directory"):
        clean_ray_metrics.write(tmp_path, "one\n")
    assert [path.name for path in tmp_path.iterdir()] == ["rayrack_clean_ray.prom"]
