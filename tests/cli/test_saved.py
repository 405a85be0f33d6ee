"""Saved folders: what is replaced, and what `--replay` finds."""

import re

import pytest

from tests.cli.results import about, assert_one_line, entries, strict, write_spec


@pytest.fixture
def replay(run, tmp_path):
    """Repeat out/a with the network named once more."""
    return lambda *words: run(
        "explain", "--replay", "out/a", "--model", f"{tmp_path / 'net.py'}:make", *words
    )


def test_existing_results_need_force(explain, photos, tmp_path):
    assert explain(photos / "a.png", "--target", "3")[0] == 0
    code, out, err = explain(photos, "--target", "4")
    assert code == 1
    assert_one_line(
        err, "out/a exists already: choose another place, or overwrite it (overwrite=True, --force)"
    )
    assert [line.split(":")[0] for line in out.splitlines()] == ["b.png", "page"]
    assert about(tmp_path / "out" / "a")["target"]["index"] == 3
    assert about(tmp_path / "out" / "b")["target"]["index"] == 4
    code, _, err = explain(photos, "--target", "4", "--force")
    assert (code, err) == (0, "")
    assert about(tmp_path / "out" / "a")["target"]["index"] == 4


def test_force_never_replaces_what_is_not_ours(explain, photos, tmp_path):
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "thesis.txt").write_text("years of work")
    code, _, err = explain(photos / "a.png", "--force")
    assert code == 1
    assert_one_line(err, "out/a is not a chiaroscuro result, so no explanation is written there")
    assert entries(tmp_path / "out" / "a") == ["thesis.txt"]


def test_a_method_is_kept_and_repeated(explain, replay, photos, tmp_path):
    words = ("--method", "smoothgrad", "--points", "3", "--sigma", "0.2", "--rivals", "softmax")
    assert explain(photos / "a.png", *words, maps=["active", "margin"])[0] == 0
    kept = about(tmp_path / "out" / "a")["choices"]
    method = {name: value for name, value in kept["method"].items() if value is not None}
    assert method == {"name": "smoothgrad", "points": 3, "sigma": 0.2, "seed": 0}
    assert kept["rivals"] == "softmax"
    code, out, err = replay()
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "out/a: the same"


def test_expected_gradients_read_a_folder(explain, replay, photos, tmp_path):
    words = ("--method", "expected-gradients", "--points", "2", "--background", photos)
    assert explain(photos / "a.png", *words)[0] == 0
    kept = about(tmp_path / "out" / "a")["choices"]["method"]
    assert kept["background_images"] == 2 and kept["background"] == str(photos)
    code, _, err = replay("-q")
    assert code == 1
    assert_one_line(err, "2 background images", "hand them in (background=..., --background)")
    words = ("--method", "expected-gradients", "--background", photos)
    assert replay(*words, "-q")[0] == 0


def test_a_saved_result_runs_no_code(explain, run, photos, tmp_path):
    assert explain(photos / "a.png")[0] == 0
    (tmp_path / "net.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    code, out, err = run("explain", "--replay", "out/a")
    assert (code, out) == (1, "")
    assert_one_line(err, "which a saved result does not run", "(--model)")
    assert not (tmp_path / "ran").exists()


def test_replay_the_same(explain, replay, photos, tmp_path):
    assert explain(photos / "a.png", "--target", "dog", maps=["active", "winner"])[0] == 0
    code, out, err = replay()
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "out/a: the same"
    assert "logits: relative difference 0" in out
    assert "active: relative difference 0" in out
    assert replay("--quiet") == (0, "", "")
    code, out, err = replay("--json")
    assert (code, err) == (0, "")
    assert strict(out) == {
        "maps": {"active": 0.0, "winner": 0.0}, "logits": 0.0, "changes": [], "why": [],
        "tolerance": 0.001, "same": True,
    }  # fmt: skip


def test_replay_different(explain, replay, photos, tmp_path):
    assert explain(photos / "a.png", "--target", "dog")[0] == 0
    write_spec(tmp_path, factor=1.25)
    code, out, err = replay()
    assert (code, err) == (1, "")
    assert out.splitlines()[0] == "out/a: different"
    out_text = out
    code, out, err = replay("--json")
    assert (code, err) == (1, "")
    found = strict(out)
    assert found["same"] is False
    assert found["logits"] > 0
    assert found["maps"]["active"] == pytest.approx(0.25, abs=0.01)
    assert re.search("active: relative difference 0.2.*, more than 0.001 .--tolerance.", out_text)
    assert "  possible reason: SHA-256 of the weights was " in out_text
    code, out, _ = replay("--tolerance", "0.3")
    assert (code, out.splitlines()[0]) == (0, "out/a: the same within 0.3")
    assert_one_line(explain("--tolerance", "0.3")[2], "--tolerance is for --replay: give both")


def test_replay_says_why_numbers_may_differ(explain, replay, photos):
    assert explain(photos / "a.png", "--threads", "2")[0] == 0
    code, out, _ = replay("--threads", "1")
    assert code == 0
    assert out.splitlines()[-1].endswith("CPU threads were 2, now 1")


def test_replay_says_what_changed(explain, replay, photos):
    assert explain(photos / "a.png")[0] == 0
    (photos / "a.png").unlink()
    _, out, _ = replay()
    assert "a.png is gone: saved pixels are explained" in out


def test_replay_json_with_another_number_of_classes_is_json(explain, replay, photos, tmp_path):
    assert explain(photos / "a.png", "--target", "dog")[0] == 0
    write_spec(tmp_path, factor=1.25, classes=4)  # another size: bytecode is kept by it
    code, out, _ = replay("--json")
    assert code == 1
    assert "classes were 5, now 4" in strict(out)["changes"]


def test_replay_without_an_explanation(run, tmp_path):
    code, out, err = run("explain", "--replay", tmp_path / "nothing")
    assert (code, out) == (1, "")
    assert_one_line(err, "nothing: no explanation there")


def test_replay_of_a_gallery_says_what_it_is(explain, photos, run, tmp_path):
    assert explain(photos / "a.png")[0] == 0
    _, _, err = run("explain", "--replay", tmp_path / "out")
    assert_one_line(err, "out: no explanation there; it holds a chiaroscuro gallery")
