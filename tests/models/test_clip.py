"""Classes from text: CLIP and SigLIP held against transformers' own whole model."""

import pickle
import sys
from dataclasses import replace

import pytest
import torch
from transformers import (
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    pipeline,
)

from chiaroscuro import (
    ChoiceError,
    Classifier,
    MissingExtraError,
    ModelError,
    choices,
    class_gradients,
    explain,
    load_classifier,
)
from chiaroscuro.catalog import TextClasses
from chiaroscuro.classifier import texts as module
from chiaroscuro.explanations import replay
from chiaroscuro.explanations.comparison import load_named
from chiaroscuro.gradients import Method
from tests.models import clips
from tests.models.libraries import floats, framed, noise, normalized, one_line
from tests.toys import random_pixels

CLASSES = ["a photo of a cat", "a dog", "three small birds"]
every_family = pytest.mark.parametrize("family", clips.FAMILIES)


def doubled(folder, family, **options):
    model, processor = clips.FAMILIES[family](folder, **options)
    return model.double(), processor


def own(classifier, model, processor, x, prompts=CLASSES):
    return clips.own_logits(model, processor, prompts, shown(classifier, x))


def shown(classifier, x):
    """What the image tower is given, in float64."""
    mean, std = (torch.tensor(v, dtype=x.dtype) for v in (classifier.mean, classifier.std))
    return (x - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)


@every_family
def test_logits_are_those_of_the_whole_model(tmp_path, family):
    model, processor = doubled(tmp_path, family)
    classifier = Classifier.from_clip(model, processor, CLASSES)
    x = random_pixels(3, 3, clips.SIDE, clips.SIDE)
    with torch.no_grad():
        expected = own(classifier, model, processor, x)
    assert expected.std(dim=0).min() > 0.01 and expected.std(dim=1).min() > 0.01
    torch.testing.assert_close(classifier(x), expected, rtol=1e-12, atol=1e-12)
    assert classifier.labels == tuple(CLASSES)
    assert classifier.size == (clips.SIDE, clips.SIDE)
    assert classifier.origin["architecture"] == f"transformers:{type(model).__name__}"


@every_family
@pytest.mark.parametrize(("attention", "tolerance"), [("sdpa", 1e-11), ("eager", 1e-6)])
def test_gradients_are_autograd_of_the_whole_model(tmp_path, family, attention, tolerance):
    """The softmax of transformers' eager attention is computed in float32, in either."""
    model, processor = doubled(tmp_path, family)
    model.set_attn_implementation(attention)
    assert model.vision_model.config._attn_implementation == attention
    classifier = Classifier.from_clip(model, processor, CLASSES)
    x = random_pixels(2, 3, clips.SIDE, clips.SIDE)
    made = class_gradients(classifier, x, target=1)
    leaf = x.clone().requires_grad_(True)
    logits = own(classifier, model, processor, leaf)
    rows = [torch.autograd.grad(logits[:, k].sum(), leaf, retain_graph=True)[0] for k in range(3)]
    assert rows[1].std() > 1e-3
    close = {"rtol": 0, "atol": tolerance * float(rows[1].abs().max())}
    torch.testing.assert_close(made.target_gradient, rows[1], **close)
    torch.testing.assert_close(made.rival_max, torch.maximum(rows[0], rows[2]), **close)
    torch.testing.assert_close(made.rival_min, torch.minimum(rows[0], rows[2]), **close)


TEMPLATES = ["a photo of a {}", "a {}, small", "{} on a red car"]
NAMES = ["cat", "dog"]


@every_family
def test_templates_are_normalized_averaged_and_normalized(tmp_path, family):
    """CLIP's protocol, one prompt at a time."""
    model, processor = doubled(tmp_path, family)
    classifier = Classifier.from_clip(model, processor, NAMES, TEMPLATES)
    x = random_pixels(2, 3, clips.SIDE, clips.SIDE)
    with torch.no_grad():
        image = model.get_image_features(pixel_values=shown(classifier, x)).pooler_output
        bias = getattr(model, "logit_bias", torch.zeros(1))
        for k, name in enumerate(NAMES):
            vectors = []
            for template in TEMPLATES:
                tokens = processor.tokenizer(
                    template.format(name), padding="max_length", return_tensors="pt"
                )
                (vector,) = model.get_text_features(**tokens).pooler_output
                vectors.append(vector / vector.norm())
            mean = sum(vectors) / len(vectors)
            cosines = torch.cosine_similarity(image, (mean / mean.norm())[None])
            expected = model.logit_scale.exp() * cosines + bias
            torch.testing.assert_close(classifier(x)[:, k], expected, rtol=1e-11, atol=1e-11)
    assert classifier.labels == ("cat", "dog")
    assert mean.norm() < 0.999, "the order of averaging and normalizing must matter"


@every_family
def test_a_folder_answers_as_the_pipeline_of_transformers(tmp_path, family):
    """The photo has the asked size: no resizing is done, whose rounding differs."""
    folder = tmp_path / "saved"
    clips.save(folder, family)
    classifier = load_classifier(f"clip:{folder}", classes=CLASSES)
    image = noise(clips.SIDE, clips.SIDE)
    asked = pipeline("zero-shot-image-classification", model=str(folder))
    expected = asked(image, candidate_labels=CLASSES, hypothesis_template="{}")
    ours = classifier.probabilities(classifier(framed(classifier, image)))[0]
    assert classifier.multi_label == (family != "clip")
    assert {one["label"]: one["score"] for one in expected} == pytest.approx(
        dict(zip(CLASSES, ours.tolist(), strict=True)), rel=1e-4
    )
    assert classifier.name == f"clip:{folder}"


def test_the_photo_is_framed_as_by_the_processor(tmp_path):
    _, processor = clips.save(tmp_path / "saved")
    classifier = load_classifier(f"clip:{tmp_path}/saved", classes=CLASSES)
    image = noise(48, 60)
    theirs = processor.image_processor(image, return_tensors="pt")["pixel_values"]
    mine = normalized(framed(classifier, image), classifier.mean, classifier.std)
    difference = (mine - theirs).abs() * min(classifier.std) * 255
    assert difference.max() <= 1.01 and difference.mean() <= 0.05


def test_the_text_tower_runs_when_the_classifier_is_made_and_never_again(tmp_path, monkeypatch):
    model, processor = clips.clip(tmp_path)
    runs = []
    model.text_model.register_forward_pre_hook(
        lambda part, arguments, named: runs.append(len(named["input_ids"])), with_kwargs=True
    )
    classifier = Classifier.from_clip(model, processor, CLASSES, ["{}", "a {}"])
    assert runs == [6]
    class_gradients(classifier, floats(2, 3, clips.SIDE, clips.SIDE))
    assert runs == [6]
    names = [name for name, _ in classifier.module.named_parameters()]
    assert not any("text" in name for name in names) and "head.weight" in names
    logits = classifier(floats(1, 3, clips.SIDE, clips.SIDE))
    monkeypatch.setattr(module, "_AT_ONCE", 4)
    parts = Classifier.from_clip(model, processor, CLASSES, ["{}", "a {}"])
    assert runs == [6, 4, 2]
    torch.testing.assert_close(parts(floats(1, 3, clips.SIDE, clips.SIDE)), logits)


def test_the_model_is_left_as_it_was(tmp_path):
    model, processor = clips.clip(tmp_path)
    model.train()
    model.visual_projection.requires_grad_(False)
    model.text_model.eval()
    modes = [part.training for part in model.modules()]
    flags = [p.requires_grad for p in model.parameters()]
    values = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(4)
    before = torch.get_rng_state()
    classifier = Classifier.from_clip(model, processor, CLASSES)
    class_gradients(classifier, floats(1, 3, clips.SIDE, clips.SIDE))
    assert torch.equal(torch.get_rng_state(), before)
    assert [part.training for part in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())


def test_a_classifier_goes_to_other_processes(tmp_path):
    """As evaluate, check and localize send it to their workers."""
    classifier = Classifier.from_clip(*clips.clip(tmp_path), CLASSES)
    x = floats(1, 3, clips.SIDE, clips.SIDE)
    assert torch.equal(pickle.loads(pickle.dumps(classifier))(x), classifier(x))


def test_a_copy_of_a_loaded_classifier_gives_the_same_bytes(tmp_path):
    """Where weights lie in memory decides how sums round: a file's own places are any."""
    clips.save(tmp_path / "saved")
    classifier = load_classifier(f"clip:{tmp_path}/saved", classes=CLASSES)
    twin = pickle.loads(pickle.dumps(classifier))
    x = floats(1, 3, clips.SIDE, clips.SIDE)
    pairs = (class_gradients(c, x, target=0) for c in (classifier, twin))
    assert torch.equal(*(each.target_gradient for each in pairs))
    assert all(p.data_ptr() % 64 == 0 for p in classifier.module.parameters())


def test_a_half_precision_checkpoint_is_explained(tmp_path):
    model, processor = clips.clip(tmp_path)
    model.half().save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    classifier = load_classifier(f"clip:{tmp_path}/saved", classes=CLASSES)
    assert explain(classifier, noise(30, 30)).maps["active"].any()


# Texts


@pytest.mark.parametrize(
    ("classes", "templates", "message"),
    [
        ([], ["{}"], "^classes are none: give two texts or more"),
        (["a cat"], ["{}"], "^classes are 'a cat': give two texts or more, none of them empty$"),
        (["a cat", " "], ["{}"], "none of them empty$"),
        (["A  Cat", "a dog", "a cat"], ["{}"], "^class 'a cat' is given twice: give it once$"),
        (CLASSES, ["{}", "a photo"], r"^template 'a photo' has no {}, where the class stands$"),
        ("a cat", ["{}"], "^'a cat' is no file of texts .*: give two texts or more, or a file"),
        (CLASSES, "a photo of {}", "^'a photo of {}' is no file of texts "),
        (
            ["a cat", "dog " * 80], ["{}"],
            "^'dog dog .*' is 82 tokens long: the text tower reads 77 and would silently leave out",
        ),
    ],
)  # fmt: skip
def test_texts_that_make_no_classes_are_refused(tmp_path, classes, templates, message):
    with pytest.raises(ChoiceError, match=message) as caught:
        Classifier.from_clip(*clips.clip(tmp_path), classes, templates)
    one_line(caught)


@every_family
def test_the_longest_prompt_that_is_read_whole(tmp_path, family):
    model, processor = clips.FAMILIES[family](tmp_path)
    limit = clips.PLACES[model.config.model_type]
    texts = ["a cat", "a" + " a" * limit]
    ends = len(processor.tokenizer("a").input_ids) - 1
    while len(processor.tokenizer(texts[1]).input_ids) > limit:
        texts[1] = texts[1].removesuffix(" a")
    assert ends <= 3
    assert Classifier.from_clip(model, processor, texts).num_classes == 2
    with pytest.raises(ChoiceError, match=f"the text tower reads {limit} and would silently"):
        Classifier.from_clip(model, processor, [texts[0], texts[1] + " a"])


def test_classes_may_be_a_file(tmp_path):
    folder = tmp_path / "saved"
    clips.save(folder)
    file = tmp_path / "texts.txt"
    file.write_bytes("\ufeffa cat\r\n\n  two dogs \na bird, red\n".encode())
    for given in (file, str(file)):
        classifier = load_classifier(f"clip:{folder}", classes=given)
        assert classifier.labels == ("a cat", "two dogs", "a bird, red")
    assert classifier.class_index("red") == 2
    file.write_bytes(b"\xff\xfe\x00cat")
    with pytest.raises(ChoiceError, match=r"texts.txt' is no file of texts \('utf-8' codec"):
        load_classifier(f"clip:{folder}", classes=file)


def test_a_source_without_classes_needs_them_and_others_take_none():
    with pytest.raises(ChoiceError, match=r"^clip:x needs classes: --classes 'a cat' 'a dog'"):
        load_classifier("clip:x")
    for spec in ("cifar10-cnn", "hf:x", "folder", "file.py:make", "torchvision:resnet18"):
        for given in ({"classes": CLASSES}, {"templates": ["a {}"]}):
            with pytest.raises(ChoiceError, match=f"^{spec} has its own classes: .*for clip:NAME$"):
                load_classifier(spec, **given)


# What is no CLIP


def tiny_vit(folder):
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=16, patch_size=8,
    )  # fmt: skip
    return ViTForImageClassification(config), ViTImageProcessor(size={"height": 16, "width": 16})


def test_an_image_classifier_is_no_clip(tmp_path):
    model, processor = tiny_vit(tmp_path)
    message = "^ViTForImageClassification with ViTImageProcessor is no CLIP or SigLIP with its"
    with pytest.raises(ModelError, match=message) as caught:
        Classifier.from_clip(model, processor, CLASSES)
    one_line(caught)
    for part in (model, processor):
        part.save_pretrained(tmp_path / "saved")
    with pytest.raises(ModelError, match=r"^clip:.*saved: cannot be loaded .*ViTConfig") as caught:
        load_classifier(f"clip:{tmp_path}/saved", classes=CLASSES)
    one_line(caught)


def test_a_processor_alone_is_no_processor_of_a_clip(tmp_path):
    model, processor = clips.clip(tmp_path)
    with pytest.raises(ModelError, match="CLIPModel with CLIPImageProcessor is no CLIP or SigLIP"):
        Classifier.from_clip(model, processor.image_processor, CLASSES)


def test_a_network_that_takes_patches_is_refused(tmp_path):
    """SigLIP 2 NaFlex."""
    text = {**clips.TOWER, "vocab_size": 100, "projection_size": 16}
    model = Siglip2Model(Siglip2Config(text_config=text, vision_config={**clips.TOWER}))
    _, processor = clips.siglip2(tmp_path)
    processor.image_processor = Siglip2ImageProcessor()
    with pytest.raises(ModelError, match="^Siglip2Model with SiglipProcessor") as caught:
        Classifier.from_clip(model, processor, CLASSES)
    one_line(caught)


@pytest.mark.parametrize("change", ["model.safetensors", "config.json", "text_model"])
def test_a_broken_folder_is_one_line(tmp_path, change):
    model, _ = clips.save(tmp_path / "saved")
    if change == "text_model":
        state = {k: v for k, v in model.state_dict().items() if "text_model" not in k}
        model.save_pretrained(tmp_path / "saved", state_dict=state)
    else:
        (tmp_path / "saved" / change).write_bytes(b"{ not what it says" * 4)
    with pytest.raises(ModelError, match=f"^clip:{tmp_path}/saved") as caught:
        load_classifier(f"clip:{tmp_path}/saved", classes=CLASSES)
    one_line(caught)


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"^clip:x needs transformers, which is not"):
        load_classifier("clip:x", classes=CLASSES)


# Saved results


def test_a_saved_explanation_finds_its_texts_again(tmp_path, monkeypatch):
    clips.save(tmp_path / "saved")
    spec = f"clip:{tmp_path}/saved"
    classifier = load_classifier(spec, classes=["cat", "dog"], templates=TEMPLATES)
    noise(30, 40).save(tmp_path / "photo.png")
    explain(classifier, tmp_path / "photo.png", contrast="dog", target="cat").save(tmp_path / "why")
    again, differences = replay(tmp_path / "why")
    assert differences.same and not differences.changes
    assert again.model.texts == TextClasses(("cat", "dog"), tuple(TEMPLATES))
    _, differences = replay(tmp_path / "why", load_classifier(spec, classes=["cat", "dog"]))
    assert not differences.same
    assert any("model origin was" in line for line in differences.changes)


def test_a_saved_result_reads_no_file_of_texts(tmp_path):
    """Of a record that was changed by somebody: one name, that of a file."""
    clips.save(tmp_path / "saved")
    (tmp_path / "secret.txt").write_text("a cat\na dog\n")
    facts = load_classifier(f"clip:{tmp_path}/saved", classes=NAMES).describe()
    assert load_named(facts).labels == ("cat", "dog")
    for classes in ([f"{tmp_path}/secret.txt"], None):
        origin = {"classes": classes, "templates": ["{}"]} if classes else {}
        with pytest.raises(ModelError, match="has no spec to load it by"):
            load_named(replace(facts, origin=origin))


def test_maps_against_a_rival_text(tmp_path):
    """Why cat rather than dog: the margin is the difference of the two texts' gradients."""
    model, processor = doubled(tmp_path, "clip")
    classifier = Classifier.from_clip(model, processor, ["a cat", "a dog", "a red car"])
    x = random_pixels(1, 3, clips.SIDE, clips.SIDE)
    explanation = explain(classifier, x[0], target="a cat", contrast="a dog")
    leaf = x.clone().requires_grad_(True)
    logits = own(classifier, model, processor, leaf, ["a cat", "a dog"])
    (difference,) = torch.autograd.grad((logits[:, 0] - logits[:, 1]).sum(), leaf)
    strongest = difference[0].abs().amax(dim=0)
    found = torch.from_numpy(explanation.maps["margin"])
    torch.testing.assert_close(found.abs().double(), strongest, rtol=1e-5, atol=1e-8)


@every_family
@pytest.mark.parametrize("name", [n for n, row in choices.METHODS.items() if not row.captum])
def test_every_gradient_method_takes_a_clip(tmp_path, name, family):
    model, processor = doubled(tmp_path, family)
    classifier = Classifier.from_clip(model, processor, CLASSES)
    x = random_pixels(1, 3, clips.SIDE, clips.SIDE)
    row = choices.METHODS[name]
    background = random_pixels(2, 3, clips.SIDE, clips.SIDE, seed=9) if row.background else None
    method = Method(name, points=row.points and 4, background=background)
    made = class_gradients(classifier, x, target=1, method=method)
    for values in (made.target_gradient, made.rival_max, made.rival_min):
        assert values.isfinite().all() and values.std() > 0
