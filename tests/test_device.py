"""Sizes of work: what was measured, what another machine takes, and where they come from."""

import json
from dataclasses import fields

import pytest
import torch

import chiaroscuro.device as device
from chiaroscuro import Classifier, class_gradients
from chiaroscuro.device import DeviceProfile, device_profile, profile_in_use
from chiaroscuro.gradients import probe
from chiaroscuro.gradients.backward import program
from tests.toys import random_pixels, small_cnn

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


def test_a_gpu_takes_what_its_free_memory_has_room_for(monkeypatch):
    large, small = DeviceProfile.of_gpu(130 << 30), DeviceProfile.of_gpu(4 << 30)
    assert (large.chunk_bytes, large.budget_bytes) == (1 << 30, 65 << 30)
    assert (small.chunk_bytes, small.forward_bytes) == (128 * MIB, 16 * MIB)
    sizes = [field.name for field in fields(DeviceProfile) if field.name.endswith("bytes")]
    assert all(getattr(small, name) <= getattr(large, name) for name in sizes)
    asked = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda at: (asked.append(at), (4 << 30, 0))[1])
    device._of_gpu.cache_clear()
    for _ in range(2):  # what is free later, with tensors on it, changes no size
        assert device_profile(torch.device("cuda", 1)) == small
    assert asked == ["cuda:1"]
    with profile_in_use(large):
        assert device_profile("cuda:1") == device_profile() == large
    device._of_gpu.cache_clear()


def test_results_do_not_depend_on_the_device_whose_sizes_are_taken():
    classifier, pixels = Classifier(small_cnn(40).double()), random_pixels(3, 3, 12, 10)
    usual = class_gradients(classifier, pixels)
    with profile_in_use(DeviceProfile.of_gpu(130 << 30)):
        other = class_gradients(classifier, pixels)
    torch.testing.assert_close(other.rival_max, usual.rival_max, rtol=1e-9, atol=1e-12)


def test_the_sizes_are_those_of_the_network_s_device(monkeypatch):
    seen, own = [], DeviceProfile.of_gpu(130 << 30)
    monkeypatch.setattr(probe, "device_profile", lambda device="cpu": own)
    monkeypatch.setattr(program, "device_profile", lambda: seen.append(device_profile()) or own)
    class_gradients(Classifier(small_cnn()), random_pixels(1, 3, 8, 8, dtype=torch.float32))
    assert set(seen) == {own}


class Switch:
    """One of PyTorch's own: in 2.14 a format by name, before 2.9 a boolean."""

    def __init__(self, on, *, old):
        self.allow_tf32 = on
        if not old:
            self.fp32_precision = "tf32" if on else "ieee"


@pytest.mark.parametrize("old", [False, True])
def test_a_gpu_s_tf32_is_said(monkeypatch, old):
    gpu, backends = torch.device("cuda", 0), torch.backends
    assert device.rounded_to_tf32(torch.device("cpu")) == ()
    for capability, expected in (((9, 0), True), ((7, 5), False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda at, c=capability: c)
        for conv, matmul in ((True, True), (True, False), (False, True), (False, False)):
            switch = Switch(conv, old=old)
            switch.conv = None if old else switch
            monkeypatch.setattr(backends, "cudnn", switch)
            monkeypatch.setattr(backends.cuda, "matmul", Switch(matmul, old=old))
            said = ["convolutions"] * conv + ["products"] * matmul
            assert device.rounded_to_tf32(gpu) == (tuple(said) if expected else ())
