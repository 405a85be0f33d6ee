"""Sizes of work: what was measured, what another machine takes, and where they come from."""

import json
from dataclasses import fields

import pytest

import chiaroscuro.device as device
from chiaroscuro.device import DeviceProfile, device_profile, profile_in_use

MIB = 1 << 20


def test_the_machine_that_was_measured_has_the_sizes_that_were_measured():
    assert DeviceProfile.of(cores=2, cache_bytes=32 * MIB) == DeviceProfile()
    assert DeviceProfile.of(2, 260 * MIB, 24 << 30).chunk_bytes == 20 * MIB


def test_smaller_machines_take_less():
    small = DeviceProfile.of(cores=1, cache_bytes=4 * MIB, memory_bytes=2 << 30)
    assert (small.chunk_bytes, small.busy_rows, small.matrix_bytes) == (8 * MIB, 32, 4 * MIB)
    assert small.budget_bytes == 512 * MIB
    sizes = [field.name for field in fields(DeviceProfile) if field.name.endswith("bytes")]
    assert all(0 < getattr(small, name) <= getattr(DeviceProfile(), name) for name in sizes)


def test_a_profile_is_written_down_and_read_back():
    profile = DeviceProfile.of(cores=8, cache_bytes=16 * MIB)
    listed = json.loads(json.dumps(profile.describe()))
    with profile_in_use(DeviceProfile(**listed)):
        assert device_profile().describe() == listed
    assert device_profile() != profile


@pytest.mark.parametrize("size", ["", "none", "12Q", "K"])
def test_a_system_that_tells_nothing_has_the_usual_sizes(monkeypatch, tmp_path, size):
    (tmp_path / "index3").mkdir()
    (tmp_path / "index3" / "size").write_text(size)
    for place in (tmp_path, tmp_path / "nowhere"):
        monkeypatch.setattr(device, "_CACHES", place)
        assert device._of_this_machine.__wrapped__() == DeviceProfile()
    (tmp_path / "index3" / "size").write_text("16M\n")
    monkeypatch.setattr(device, "_CACHES", tmp_path)
    assert device._of_this_machine.__wrapped__().chunk_bytes == 10 * MIB
