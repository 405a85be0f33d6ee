"""Settings: one form for every value, all faults at once, and calls that show their fields."""

import dataclasses
import inspect
import json

import numpy as np
import pytest
import torch

from chiaroscuro import choices
from chiaroscuro.choices import METHODS, MethodOptions
from chiaroscuro.errors import ChoiceError
from chiaroscuro.settings import (
    PANELS,
    CheckSettings,
    CompareSettings,
    ConfusionSettings,
    EvaluationSettings,
    ExplainSettings,
    LocalizationSettings,
    ProbeSettings,
    TrainingSettings,
    WhatIfSettings,
    option_of,
    settings_from,
    takes,
)

REQUIRED = {
    ExplainSettings: {}, WhatIfSettings: {}, CompareSettings: {}, EvaluationSettings: {"data": "x"},
    CheckSettings: {"data": "x"}, LocalizationSettings: {"data": "x", "regions": "y"},
    TrainingSettings: {"data": "x"}, ConfusionSettings: {"data": "x"},
    ProbeSettings: {},
}  # fmt: skip


@pytest.mark.parametrize("cls", REQUIRED, ids=lambda cls: cls.__name__)
def test_defaults_are_valid_plain_and_replaceable(cls):
    made = cls(**REQUIRED[cls])
    assert dataclasses.replace(made) == made == cls(**dataclasses.asdict(made))
    plain = json.loads(json.dumps(made.plain(), allow_nan=False))
    assert cls(**plain) == made
    for field in dataclasses.fields(cls):
        about = option_of(field)
        assert about.help.endswith(".") and about.panel in PANELS, field.name
        if about.names and field.default is not dataclasses.MISSING:
            given = field.default if isinstance(field.default, tuple) else (field.default,)
            assert set(given) - {None} <= set(about.names)


def test_all_wrong_fields_are_reported_together():
    with pytest.raises(ChoiceError) as caught:
        EvaluationSettings(
            data="x", confidence=7, fractions=(3, 2), resamples=0, batch=1e9, maps="activ"
        )
    assert str(caught.value).split("; ") == [
        "batch is 1000000000: expected a number in [1, 65536]",
        "resamples is 0: expected at least 1",
        "confidence is 7.0: expected a number in (0, 1)",
        str(caught.value).split("; ")[3],
        "fractions is 3.0: expected a number in [0, 1)",
    ]
    assert "unknown map 'activ': did you mean active" in str(caught.value)


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (EvaluationSettings, {"fractions": (0.3, 0.2)}, "expected rising numbers"),
        (EvaluationSettings, {"fractions": (0.2, 0.2)}, "expected rising numbers"),
        (EvaluationSettings, {"fractions": (0, 1)}, r"expected a number in \[0, 1\)"),
        (EvaluationSettings, {"batch": 0}, r"batch is 0: expected a number in \[1, 65536\]"),
        (EvaluationSettings, {"batch": 10**9}, "batch is 1000000000"),
        (EvaluationSettings, {"seed": -1}, "seed is -1"),
        (EvaluationSettings, {"seed": True}, "seed is True: expected a number"),
        (EvaluationSettings, {"limit": 2.5}, "limit is 2.5: expected a whole number"),
        (EvaluationSettings, {"limit": "many"}, "limit is 'many': expected a number"),
        (EvaluationSettings, {"confidence": float("nan")}, "confidence is nan"),
        (EvaluationSettings, {"what_if": 1}, "what_if is 1.0"),
        (EvaluationSettings, {"rgb_only": 1}, "rgb_only is 1: expected True or False"),
        (EvaluationSettings, {"split": 3}, "split is 3: expected a text"),
        (EvaluationSettings, {"score": 5}, "unknown score '5'"),
        (EvaluationSettings, {"fills": ()}, "no fills are given"),
        (EvaluationSettings, {"fills": ("gray",)}, "unknown fill 'gray'"),
        (EvaluationSettings, {"rivals": "top:0"}, "rivals is 'top:0'"),
        (EvaluationSettings, {"sigma": 0.1}, "'gradient' takes no sigma: it is for smoothgrad"),
        (EvaluationSettings, {"method": "expected-gradients"}, "needs background images"),
        (EvaluationSettings, {"method": len, "points": 3}, "is an object: give it its"),
        (CheckSettings, {"points": 3}, "no method of gradient takes points"),
        (CheckSettings, {"methods": ("gradient", "gradient")}, "two methods are called 'gradient'"),
        (CheckSettings, {"methods": ("lpr",)}, "unknown method 'lpr': did you mean lrp"),
        (LocalizationSettings, {"target": "best"}, "unknown target 'best'"),
        (WhatIfSettings, {"fraction": 1}, "fraction is 1.0"),
        (ExplainSettings, {"method": "vargrad"}, "the variance of gradients has no sign"),
        (ExplainSettings, {"contrast": "dog", "rivals": "top:2"}, "give one of them"),
        (ExplainSettings, {"target": 1.5j}, "target is 1.5j: expected a number"),
        (TrainingSettings, {"size": 1}, "size is 1: expected a side"),
        (TrainingSettings, {"cache_features": True}, "frozen body only"),
    ],
    ids=str,
)
def test_what_is_out_of_bounds_is_refused(cls, options, message):
    with pytest.raises(ChoiceError, match=message):
        cls(**{**REQUIRED[cls], **options})


def test_numbers_of_libraries_become_plain(tmp_path):
    made = EvaluationSettings(
        data=tmp_path, limit=np.int64(5), seed=torch.tensor(3), confidence=np.float64(0.5),
        fractions=np.array([0.0, 0.5]), maps=["active", "active"], rivals=[np.int64(2), "cat"],
        rgb_only=np.bool_(True), fills="+0.1",
    )  # fmt: skip
    assert (made.data, made.limit, made.seed) == (str(tmp_path), 5, 3)
    assert type(made.limit) is type(made.seed) is int and type(made.confidence) is float
    assert (made.fractions, made.maps, made.rivals) == ((0.0, 0.5), ("active",), "#2,cat")
    assert made.rgb_only is True and made.fills == ("brighter:0.1",)
    assert ExplainSettings(target=np.int64(4)).target == 4
    assert ExplainSettings(target="predicted").target is None
    assert TrainingSettings(data="x", size=32).size == (32, 32)


def test_a_contrast_is_one_rival_and_shows_the_margin():
    made = ExplainSettings(contrast="dog, wild")
    assert (made.rivals, made.maps) == ('"dog, wild"', choices.CONTRAST_MAPS)
    assert dataclasses.replace(made, seed=1).rivals == made.rivals
    assert ExplainSettings(contrast="3").rivals == "3"
    assert ExplainSettings(contrast="dog", maps="active").maps == ("active",)


def test_methods_have_their_own_settings():
    made = EvaluationSettings(data="x", method="smoothgrad", seed=7)
    assert made.method_options == MethodOptions("smoothgrad", 32, 0.15, seed=7)
    assert made.plain()["points"] == 32
    assert dataclasses.replace(made, method="gradient").method_options.points is None
    several = CheckSettings(data="x", methods=("gradient", "smoothgrad", "lrp"), points=3)
    assert [each.points for each in several.method_options] == [None, 3, None]
    own = object()
    assert CheckSettings(data="x", methods=(own,)).method_options == (own,)
    for name, row in METHODS.items():
        background = "photos" if row.background else None
        made = ExplainSettings(method=name, background=background)
        assert made.method_options.name == name


def test_a_map_that_is_added_at_run_time_is_known(monkeypatch):
    monkeypatch.setitem(choices.MAPS, "mine", choices.MapChoice("mine", "what it says"))
    assert ExplainSettings(maps="mine").maps == ("mine",)


@takes(EvaluationSettings)
def measure(classifier, data, *, settings=None, **options):
    """Measure."""
    return settings_from(EvaluationSettings, settings, {"data": data, **options})


def test_a_verb_shows_the_fields_of_its_settings():
    parameters = inspect.signature(measure).parameters
    assert list(parameters)[:3] == ["classifier", "data", "settings"]
    assert parameters["resamples"].default == 1000 and parameters["resamples"].annotation is int
    assert "options" not in parameters
    assert "resamples: Random sets behind each interval. (default 1000)" in measure.__doc__
    assert measure.__doc__.startswith("Measure.")


def test_a_verb_takes_fields_an_object_or_both():
    assert measure(None, "x", limit=3) == EvaluationSettings(data="x", limit=3)
    ready = EvaluationSettings(data="x", limit=3)
    assert measure(None, "x", settings=ready) == ready
    assert measure(None, "y", settings=ready, seed=1) == EvaluationSettings(
        data="y", limit=3, seed=1
    )
    with pytest.raises(ChoiceError, match="unknown option 'map': did you mean maps"):
        measure(None, "x", map="active")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fills": 5}, "unknown fill"), ({"fills": []}, "no fills"), ({"maps": ()}, "no maps"),
        ({"rgb_only": np.array([1, 2])}, "rgb_only"), ({"rivals": [True]}, "rivals"),
    ],
)  # fmt: skip
def test_values_of_the_wrong_kind_are_choices(options, said):
    with pytest.raises(ChoiceError, match=said):
        EvaluationSettings(data="x", **options)


def test_one_method_needs_no_list():
    assert CheckSettings(data="x", methods="gradient").methods == ("gradient",)
    method = object()
    assert CheckSettings(data="x", methods=method).methods == (method,)
