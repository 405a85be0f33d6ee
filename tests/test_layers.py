"""Imports go one way: a module may use only the layers above its own."""

import ast
from pathlib import Path

import chiaroscuro

SOURCE = Path(chiaroscuro.__file__).parent

LAYERS = [
    ["errors"],
    ["files"],
    ["catalog", "allocator", "hub", "stopwatch"],
    ["choices"],
    ["regions"],
    ["settings"],
    ["results"],
    ["images"],
    ["data", "render"],
    ["viewer"],
    ["report"],
    ["notebook"],
    ["edits", "guard", "matmul", "device"],
    ["shortcuts", "units"],
    ["classifier"],
    ["models"],
    ["passes"],
    ["gradients"],
    ["maps", "smallest"],
    ["metrics"],
    ["explanations", "adapters"],
    ["evaluation", "training"],
    ["checks"],
    ["reproduction"],
    ["web"],
    ["cli"],
    ["__main__"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
LIGHT = [name for names in LAYERS[:10] for name in names]


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


def module_name(path):
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(("chiaroscuro", *(part for part in parts if part != "__init__")))


def test_no_module_imports_itself_by_a_detour():
    """Imports in functions and for type checkers count too."""
    paths = {module_name(path): path for path in SOURCE.rglob("*.py")}
    del paths["chiaroscuro"]
    graph = {}
    for name, path in paths.items():
        used = {
            full if (full := f"{module}.{part}") in paths else module
            for module, parts in imports(path)
            for part in parts or [""]
        }
        graph[name] = sorted(used & paths.keys() - {name})
    done = set()

    def visit(name, way):
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for other in graph[name]:
                visit(other, [*way, name])
            done.add(name)

    for name in graph:
        visit(name, [])
