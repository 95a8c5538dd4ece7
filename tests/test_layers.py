"""Imports within the engine point down only, and never at the host."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = (
    ("errors", "choices", "progress", "limits", "quiet"),
    ("imaging",),
    ("networks",),
    ("steps",),
    ("decide",),
    ("files",),
    ("session", "preparation", "fetch"),
    ("report",),
    ("comfy", "job", "folder", "forecast", "api", "video", "large", "batch"),
    ("commands",),
    ("cli", "__main__"),
)
"""From the bottom up; a module may import from its own layer's packages and from those below."""

HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}
MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "fidelity").rglob("*.py"))


def imports(path):
    """Names of the packages and modules directly in `fidelity` that a module imports, wherever in it."""
    package = ["fidelity", *path.parts[1:-1]]
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            target = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else [])]
            if len(target) > 1:
                yield target[1]
            else:
                yield from (name.name for name in node.names if name.name in HEIGHT)


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "__init__.py" or len(path.parts) > 2], ids=str)
def test_a_module_imports_from_its_own_layer_and_below(path):
    own = path.parts[1].removesuffix(".py")
    for name in imports(path):
        assert HEIGHT[name] <= HEIGHT[own], f"{path} imports {name}, which lies above it"


def test_the_engine_never_imports_the_host():
    for path in MODULES:
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            assert not any(name and name.split(".")[0] in ("comfy", "comfy_api", "folder_paths") for name in names), path


def test_no_modules_import_each_other_in_a_circle():
    edges = {path: set() for path in MODULES}
    by_name = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES}
    for path in MODULES:
        package = ["fidelity", *path.parts[1:-1]]
        for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.level:
                target = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
                edges[path] |= {by_name[target]} if target in by_name else set()
    done, open_ = set(), set()

    def visit(path):
        assert path not in open_, f"{path} imports itself by way of others"
        if path in done:
            return
        open_.add(path)
        for other in edges[path] - {path}:
            visit(other)
        open_.remove(path)
        done.add(path)

    for path in MODULES:
        visit(path)
