"""What the package shows, and that names without torch agree with what they stand for."""

import inspect
import pickle

import pytest

import chiaroscuro
from chiaroscuro import choices
from chiaroscuro.choices import RivalRule, check_names, parse_rivals
from chiaroscuro.errors import ChiaroscuroError, ChoiceError, missing_extra, unknown, unwritable
from chiaroscuro.images import open_photo


def test_every_public_name_can_be_imported_and_is_documented():
    for name in chiaroscuro.__all__:
        value = getattr(chiaroscuro, name)
        assert name in dir(chiaroscuro)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name
    assert "class_gradients" in chiaroscuro.__all__
    assert chiaroscuro.__version__.count(".") == 2


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'chiaroscuro' has no attribute 'explane'"):
        getattr(chiaroscuro, "expl" + "ane")


def test_every_error_is_one_of_ours():
    found = vars(chiaroscuro.errors).values()
    errors = [v for v in found if inspect.isclass(v) and issubclass(v, Exception)]
    assert len(errors) == 15
    tree = chiaroscuro.errors.__doc__
    for error in errors:
        assert issubclass(error, ChiaroscuroError) and error.__name__ in tree
        made = error("a, b: what was wrong")
        assert str(made) == "a, b: what was wrong" == str(pickle.loads(pickle.dumps(made)))
        assert type(pickle.loads(pickle.dumps(made))) is error


@pytest.mark.parametrize(
    ("raised", "builtin"),
    [
        (lambda: check_names("map", "x", ()), ValueError),
        (lambda: chiaroscuro.load_classifier("gone.py:make"), FileNotFoundError),
        (lambda: chiaroscuro.load_images("gone"), FileNotFoundError),
        (lambda: open_photo("gone.png"), FileNotFoundError),
        (lambda: open_photo("gone.png"), chiaroscuro.ImageError),
        (lambda: chiaroscuro.Explanation.load("gone"), FileNotFoundError),
    ],
)
def test_errors_are_also_what_python_calls_them(raised, builtin):
    with pytest.raises(builtin) as caught:
        raised()
    assert isinstance(caught.value, ChiaroscuroError)


def test_a_place_that_cannot_be_written_is_named_once():
    error = unwritable("out", PermissionError(13, "Permission denied"))
    assert isinstance(error, OSError)
    assert str(error) == "out: cannot be written (Permission denied)"
    assert unwritable("further out", error) is error
    assert isinstance(missing_extra("hf:x", "transformers", "hf"), ImportError)


def test_unknown_lists_near_and_known_names():
    message = str(unknown("map", "Activ", ["active", "inactive", "winner"]))
    assert message.startswith("unknown map 'Activ': did you mean active")
    assert message.endswith("known are active, inactive, winner")
    assert "did you mean" not in str(unknown("map", "zzz", ["active"]))
    cats = str(unknown("class", "Cat", ["tiger cat", "catamount", "bat", "persian cat"]))
    assert "did you mean tiger cat or persian cat? " in cats


def test_missing_extra_names_the_command():
    assert "pip install 'chiaroscuro[hf]'" in str(missing_extra("hf:x", "transformers", "hf"))


@pytest.mark.parametrize(
    ("given", "text", "count", "classes"),
    [
        ("all", "all", None, None),
        ("top:10", "top:10", 10, None),
        ([3, 1, 3], "#1,#3", None, (1, 3)),
        (range(2), "#0,#1", None, (0, 1)),
        (RivalRule(count=4), "top:4", 4, None),
    ],
)
def test_rivals_are_parsed(given, text, count, classes):
    rule = parse_rivals(given)
    assert (str(rule), rule.count, rule.classes) == (text, count, classes)


@pytest.mark.parametrize("rivals", [5, None, [1.5], [[1]], "", "top", "top:", "top:x"], ids=str)
def test_other_rivals_are_refused(rivals):
    with pytest.raises(ChoiceError, match=r"^rivals is .*: give all, top:N, .* classes such as"):
        parse_rivals(rivals)


def test_check_names_keeps_order_and_drops_repeats():
    assert check_names("map", ["winner", "active", "winner"], choices.MAPS) == ("winner", "active")


def test_defaults_are_known_maps():
    assert set(choices.EXPLAIN_MAPS) < set(choices.MAPS)
    assert choices.PAPER_MAPS == ("original", "positive", "negative", "active", "inactive")
    assert [row.form for row in choices.MAPS.values()].count("printed") == 2


def test_one_name_is_taken_as_a_name():
    assert check_names("map", "active", choices.MAPS) == ("active",)
    with pytest.raises(ChoiceError, match="unknown map 'activ': did you mean active"):
        check_names("map", "activ", choices.MAPS)
