"""CPU quotas of control groups count as cores, in folders that look like the kernel's."""

import os

import pytest

from recond_service.backends.embedded import devices


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Return what lays out control groups; a file's name says its place and what is in it."""
    membership = tmp_path / "cgroup"

    def lay_out(line: str, **files: str) -> None:
        membership.write_text(line + "\n")
        for name, text in files.items():
            path = tmp_path / "fs" / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    quotas = devices._quotas
    monkeypatch.setattr(devices, "_quotas", lambda: quotas(tmp_path / "fs", membership))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    return lay_out


@pytest.mark.parametrize(
    ("line", "files", "cores"),
    [
        ("0::/", {"a": ""}, 16),
        ("0::/pod/box", {"pod__box__cpu.max": "max 100000\n"}, 16),
        ("0::/pod/box", {"pod__box__cpu.max": "250000 100000\n"}, 3),
        ("0::/pod/box", {"pod__cpu.max": "400000 100000\n", "pod__box__cpu.max": "max 100000\n"}, 4),
        ("0::/seen/on/the/host", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/pod", {"pod__cpu.max": "nonsense\n"}, 16),
        (
            "4:cpu,cpuacct:/docker/x",
            {
                "cpu,cpuacct__docker__x__cpu.cfs_quota_us": "600000\n",
                "cpu,cpuacct__docker__x__cpu.cfs_period_us": "100000\n",
            },
            6,
        ),
        (
            "4:cpu:/docker/x",
            {"cpu__docker__x__cpu.cfs_quota_us": "-1\n", "cpu__docker__x__cpu.cfs_period_us": "100000\n"},
            16,
        ),
    ],
)
def test_a_quota_counts_as_cores(groups, line, files, cores):
    groups(line, **files)
    assert devices.cores() == cores


def test_without_control_groups_all_cores_count(tmp_path):
    assert devices._quotas(tmp_path, tmp_path / "nothing") == []
