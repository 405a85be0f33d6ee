"""Imports go one way: a module may use only the layers above its own."""

import ast
from pathlib import Path

import chiaroscuro

SOURCE = Path(chiaroscuro.__file__).parent

LAYERS = [
    ["errors"],
    ["catalog", "staging", "allocator", "hub", "stopwatch"],
    ["choices"],
    ["results"],
    ["images"],
    ["data", "render"],
    ["report"],
    ["edits", "guard", "matmul"],
    ["shortcuts"],
    ["classifier"],
    ["models"],
    ["passes"],
    ["training", "gradients"],
    ["maps"],
    ["metrics"],
    ["explanations", "adapters"],
    ["runs"],
    ["checks"],
    ["paper"],
    ["cli"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
LIGHT = [name for names in LAYERS[:7] for name in names]


def modules():
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        if parts != ("__init__",):
            yield path, parts[0]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module, [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, []
        elif isinstance(node, ast.ImportFrom):
            raise AssertionError(f"{path}: relative imports hide the layer")


def test_every_module_has_a_layer():
    assert {layer for _, layer in modules()} == RANK.keys()


def test_imports_go_one_way():
    for path, layer in modules():
        for module, names in imports(path):
            head, _, rest = module.partition(".")
            if head != "chiaroscuro":
                continue
            used = [rest.split(".")[0]] if rest else [n for n in names if n in RANK]
            for name in used:
                allowed = name == layer or RANK[name] < RANK[layer]
                assert allowed, f"{path.relative_to(SOURCE)} ({layer}) imports {name}"


def test_light_layers_know_no_torch():
    for path, layer in modules():
        if layer in LIGHT:
            heavy = {module.split(".")[0] for module, _ in imports(path)} & {
                "torch", "torchvision", "timm", "transformers",
            }  # fmt: skip
            assert not heavy, f"{path.relative_to(SOURCE)} imports {heavy}"


def test_only_the_engine_differentiates():
    for path, layer in modules():
        text = path.read_text()
        calls = [word for word in ("autograd.grad(", ".backward(", "jvp(", "vjp(") if word in text]
        assert layer == "gradients" or not calls, f"{path.relative_to(SOURCE)} calls {calls}"


def test_only_the_guard_changes_modes_and_flags():
    for path, layer in modules():
        text = path.read_text()
        for word in (".eval()", ".train(", ".training ="):
            assert layer == "guard" or word not in text, f"{path.relative_to(SOURCE)}: {word}"
