"""A pass over an image set: resumed as the same bytes, from any damage, by any workers."""

import errno
from contextlib import suppress
from dataclasses import replace

import pytest
import torch

from chiaroscuro import Classifier, device, load_classifier
from chiaroscuro.data.loading import load_images
from chiaroscuro.device import DeviceProfile, device_profile
from chiaroscuro.errors import ChoiceError, InputError, ModelError, ResultError
from chiaroscuro.passes.runner import run_pass
from chiaroscuro.results import load, verify
from chiaroscuro.results.kinds import KINDS
from chiaroscuro.results.runs import RunConfig, RunFolder, read_config
from tests.passes.toy import KIND, MeanTask, Settings
from tests.pictures import BROKEN, class_rows, write_parquet
from tests.toys import small_cnn

CLASSES = ["cat", "dog", "owl"]
MARKER = KIND.marker


@pytest.fixture(autouse=True)
def kind(monkeypatch):
    monkeypatch.setitem(KINDS, KIND.name, KIND)


@pytest.fixture
def images(tmp_path):
    rows = class_rows(3, 3)
    rows[4] = (BROKEN, 1)
    write_parquet(tmp_path / "data" / "test.parquet", rows, CLASSES)
    return load_images(tmp_path / "data")


def toy(**options):
    return Classifier(small_cnn(3), size=12, labels=CLASSES, name="toy", **options)


def bytes_of(folder):
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_every_listed_image_is_measured_or_left_out(images, tmp_path):
    told = Told()
    found = run_pass(MeanTask(), toy(), images, tmp_path / "r", progress=told)
    assert found.ids == tuple(f"test#{n}" for n in range(9) if n != 4)
    assert (found.data.images, found.data.left_out_count) == (8, 1)
    assert found.data.left_out[0].id == "test#4"
    assert told == [(0, 9, 0), (2, 9, 0), (4, 9, 0), (6, 9, 0), (8, 9, 0), (9, 9, 0)]
    assert load(tmp_path / "r") == found
    assert verify(tmp_path / "r") == []


OWN = """
import torch
from chiaroscuro import Classifier, load_classifier

class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.arange(3 * 432.0).reshape(3, 432) / 1e3)

    def forward(self, x):
        return x.flatten(1) @ self.weights.T

def make():
    return Classifier(Own(), size=12, labels=["cat", "dog", "owl"])
"""


def test_two_workers_write_the_same_bytes_of_a_network_from_a_file(images, tmp_path, quick_workers):
    (tmp_path / "own.py").write_text(OWN)
    classifier = load_classifier(f"{tmp_path / 'own.py'}:make")
    alone = run_pass(MeanTask(), classifier, images, tmp_path / "one")
    shared = run_pass(MeanTask(), classifier, images, tmp_path / "two", workers=2)
    assert alone == shared
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


def test_threads_and_batch_stay_those_of_the_beginning(images, tmp_path):
    def interrupt(done, total, before):
        if done >= 4:
            raise KeyboardInterrupt

    open_task = MeanTask(Settings(batch=None, threads=None))
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        run_pass(
            MeanTask(Settings(batch=2, threads=2)), toy(), images, tmp_path / "r",
            progress=interrupt,
        )  # fmt: skip
    assert torch.get_num_threads() == before
    assert not (tmp_path / "r" / "index.html").exists()
    told = Told()
    run_pass(open_task, toy(), images, tmp_path / "r", resume=True, progress=told)
    assert told[0] == (4, 9, 4)
    assert told[-1] == (9, 9, 4)
    run_pass(MeanTask(Settings(batch=2, threads=2)), toy(), images, tmp_path / "whole")
    assert bytes_of(tmp_path / "r") == bytes_of(tmp_path / "whole")


def test_a_run_is_resumed_with_the_device_s_sizes_of_its_beginning(images, tmp_path, monkeypatch):
    """The free memory of a GPU is another one each time."""
    with suppress(KeyboardInterrupt):
        run_pass(MeanTask(), toy(), images, tmp_path / "r", progress=_interrupt)
    run_pass(MeanTask(), toy(), images, tmp_path / "whole")
    seen, real = [], MeanTask.process
    other = DeviceProfile.of_gpu(1 << 30)
    monkeypatch.setattr(device, "_of_this_machine", lambda: other)
    monkeypatch.setattr(
        MeanTask, "process", lambda *given: (seen.append(device_profile()), real(*given))[1]
    )
    run_pass(MeanTask(), toy(), images, tmp_path / "r", resume=True)
    assert bytes_of(tmp_path / "r") == bytes_of(tmp_path / "whole")
    assert seen and other not in seen


def test_gaps_and_damage_are_computed_also_in_a_finished_run(images, tmp_path):
    run_pass(MeanTask(), toy(), images, tmp_path / "r")
    whole = bytes_of(tmp_path / "r")
    for name in ("rows/000001.parquet", "parts/000003.json", "notes/000000.txt", "index.html"):
        for damage in (None, whole[name][:3], whole[name][:-1] + b"?"):
            file = tmp_path / "r" / name
            file.unlink() if damage is None else file.write_bytes(damage)
            told = Told()
            run_pass(MeanTask(), toy(), images, tmp_path / "r", resume=True, progress=told)
            assert bytes_of(tmp_path / "r") == whole, (name, damage)
            assert len(told) == (1 if name == "index.html" else 2)


def test_a_whole_finished_run_is_loaded(images, tmp_path):
    found = run_pass(MeanTask(), toy(), images, tmp_path / "r")
    told = Told()
    again = run_pass(MeanTask(), toy(), images, tmp_path / "r", resume=True, progress=told)
    assert again == found and told == []


def test_a_run_of_another_network_or_other_images_is_refused(images, tmp_path):
    with suppress(KeyboardInterrupt):
        run_pass(MeanTask(), toy(), images, tmp_path / "r", progress=_interrupt)
    before = bytes_of(tmp_path / "r")
    other = toy()
    with torch.no_grad():
        next(other.module.parameters()).add_(1e-6)
    for options in ({"classifier": other}, {"task": MeanTask(Settings(seed=3))}):
        given = {"task": MeanTask(), "classifier": toy(), "images": images, **options}
        with pytest.raises(ResultError, match=r"another configuration \((model\.sha256|settings)"):
            run_pass(out=tmp_path / "r", resume=True, **given)
    write_parquet(tmp_path / "data" / "test.parquet", class_rows(3, 4), CLASSES)
    with pytest.raises(ResultError, match="rows was 9, now 12"):
        run_pass(MeanTask(), toy(), load_images(tmp_path / "data"), tmp_path / "r", resume=True)
    assert bytes_of(tmp_path / "r") == before


def test_what_is_recorded_is_what_was(images, tmp_path):
    run_pass(MeanTask(), toy().to(torch.float64).to(torch.float32), images, tmp_path / "r")
    config = read_config(tmp_path / "r", KIND, RunConfig)
    assert (config.model.device, config.model.dtype, config.model.name) == ("cpu", "float32", "toy")
    assert (config.threads, config.batch, config.rows) == (1, 2, 9)
    assert config.facts == {"name": "toy"}


def test_a_full_disk_is_one_line_and_loses_nothing(images, tmp_path, monkeypatch):
    write_part = RunFolder.write_part

    def full(run, part):
        if part.number == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_part(run, part)

    monkeypatch.setattr(RunFolder, "write_part", full)
    with pytest.raises(ResultError, match=r"r: cannot be written \(No space left on device\)"):
        run_pass(MeanTask(), toy(), images, tmp_path / "r")
    monkeypatch.undo()
    monkeypatch.setitem(KINDS, KIND.name, KIND)
    run_pass(MeanTask(), toy(), images, tmp_path / "r", resume=True)
    run_pass(MeanTask(), toy(), images, tmp_path / "whole")
    assert bytes_of(tmp_path / "r") == bytes_of(tmp_path / "whole")


def test_rows_that_are_listed_and_never_come_are_an_error(images, tmp_path):
    with pytest.raises(InputError, match="12 images are listed, 9 were read"):
        run_pass(MeanTask(), toy(), replace(images, count=12), tmp_path / "r")


def test_images_of_an_unknown_number(images, tmp_path):
    for size in (2, 3):  # with a short last batch, and with none
        task = MeanTask(Settings(batch=size))
        endless = replace(images, count=None)
        out = tmp_path / f"r{size}"
        with suppress(KeyboardInterrupt):
            run_pass(task, toy(), endless, out, progress=_interrupt)
        found = run_pass(task, toy(), endless, out, resume=True)
        assert len(found.ids) == 8
        assert run_pass(task, toy(), endless, out, resume=True) == found


def test_wrong_workers_and_unwritable_places_are_found_before(images, tmp_path):
    with pytest.raises(ChoiceError, match="workers is 0"):
        run_pass(MeanTask(), toy(), images, tmp_path / "r", workers=0)
    (tmp_path / "file").write_text("")
    told = Told()
    with pytest.raises(ResultError, match="not a folder"):
        run_pass(MeanTask(), toy(), images, tmp_path / "file" / "r", progress=told)
    assert told == []


def test_one_process_at_a_time(images, tmp_path):
    def intrude(done, total, before):
        if done:
            run_pass(MeanTask(), toy(), images, tmp_path / "r", resume=True)

    with pytest.raises(ResultError, match="another process"):
        run_pass(MeanTask(), toy(), images, tmp_path / "r", progress=intrude)


def test_a_configuration_that_was_changed_is_refused(images, tmp_path):
    with suppress(KeyboardInterrupt):
        run_pass(MeanTask(), toy(), images, tmp_path / "r", progress=_interrupt)
    marker = tmp_path / "r" / MARKER
    for batch in ("0", "1000000000"):
        marker.write_text(marker.read_text().replace('"batch": 2', f'"batch": {batch}'))
        with pytest.raises(ResultError, match="damaged, or was changed"):
            run_pass(MeanTask(), toy(), images, tmp_path / "r", resume=True)


def test_a_network_that_cannot_be_sent_is_one_line(images, tmp_path):
    broken = toy()
    broken.module.hook = lambda x: x
    with pytest.raises(ModelError, match="cannot be sent to worker processes"):
        run_pass(MeanTask(), broken, images, tmp_path / "r", workers=2)
    assert run_pass(MeanTask(), broken, images, tmp_path / "r", resume=True)


class Told(list):
    def __call__(self, *numbers):
        self.append(numbers)


def _interrupt(done, total, before):
    if done >= 4:
        raise KeyboardInterrupt
