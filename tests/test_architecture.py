"""Rules of the house that no linter knows."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import jaxtyping
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "qhrtem_jax"
MODULES = sorted(PACKAGE.rglob("*.py"))

BASE = {"errors", "version", "numerics"}
LOW = BASE | {"engines", "physics", "bayesopt", "matching", "refine", "micrograph"}
MIDDLE = LOW | {"io", "inputs", "reporting"}
STAGE_ROOMS = {
    "imaging",
    "structure",
    "regions",
    "field",
    "simulation",
    "knife_edge",
    "preparation",
    "series",
    "exploration",
}
MAY_IMPORT = {
    "errors": set(),
    "version": set(),
    "numerics": {"errors"},
    "engines": BASE,
    "physics": BASE,
    "bayesopt": BASE,
    "matching": BASE | {"physics"},
    "refine": BASE | {"physics", "matching", "engines"},
    "micrograph": BASE,
    "io": BASE | {"engines", "physics", "matching", "refine"},
    "inputs": LOW | {"io"},
    "reporting": LOW | {"io", "inputs"},
    "imaging": MIDDLE,
    "structure": MIDDLE,
    "regions": MIDDLE,
    "field": MIDDLE | {"regions"},
    "series": MIDDLE | {"field", "regions"},
    "simulation": MIDDLE,
    "knife_edge": MIDDLE,
    "preparation": MIDDLE,
    "exploration": MIDDLE,
    "stages": MIDDLE | STAGE_ROOMS,
    "pipeline": MIDDLE | {"stages", "field", "structure"},
    "api": MIDDLE | {"stages", "pipeline"},
}
"""What each package, and each module beside them, may import; others are unknown here and fail."""

LONGEST = 400
LARGEST_SHARE = 0.2

KEEP_BOOKS = {
    "io/journal.py": "counts what a stage does while it runs",
    "io/digital_micrograph.py": "a cursor in a file",
    "io/cost.py": "adds up compilation as JAX reports it",
    "io/run_folder.py": "keeps the manifest of a folder as files are written",
    "reporting/progress.py": "a live line and its watch",
}
"""Modules whose objects change after they were made, and why; all others hold values."""

GROUPS = (
    "data|specimen|microscope|objective|optimizer|parameters|imaging|structure|reconstruct"
    "|stitch|series|engine|pipeline|simulate|mtf|explore"
)
OPTION = re.compile(rf"(?<![\w/])({GROUPS})\.([A-Za-z]\w*|$)")
"""The name of an option; at the end of a text its last part is put in."""

FILES = re.compile(r"\.(csv|html|npz|png|json)$")

THE_EDGE = ("inputs/*", "*/settings.py", "*/problem.py", "simulation/output.py")
"""Where options have names: where they are read and refused (`simulate.out` when it is written)."""


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path):
    """Names of all modules that `path` imports, wherever in it, as written in full."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wrong_imports(room: str, names) -> list[str]:
    """Those of `names` that a package must not import."""
    if room not in MAY_IMPORT:
        return [f"{room} is unknown: enter it into MAY_IMPORT"]
    known = {room} | MAY_IMPORT[room]
    outside = sorted(
        {n for n in names if n.split(".")[0] in ("experiments", "tests", "benchmarks")}
    )
    inside = [n.split(".")[1] for n in names if n.startswith("qhrtem_jax.")]
    unknown = {other for other in inside if other in MAY_IMPORT and other not in known}
    return [*outside, *sorted(unknown)]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path):
    names = list(imports(path))
    assert not [n for n in names if n.startswith(("hydra", "omegaconf"))]
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room != "__init__":
        assert wrong_imports(room, names) == []


def test_what_points_the_other_way_is_seen():
    assert wrong_imports("physics", ["qhrtem_jax.bayesopt.gp"]) == ["bayesopt"]
    assert wrong_imports("imaging", ["qhrtem_jax.regions.fit"]) == ["regions"]
    assert wrong_imports("field", ["qhrtem_jax.regions.fit", "numpy"]) == []
    assert wrong_imports("physics", ["experiments.schema"]) == ["experiments.schema"]
    assert wrong_imports("cellar", [])


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle; empty: none do."""
    done: set[str] = set()
    path: list[str] = []

    def visit(module: str) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return []
        path.append(module)
        for other in sorted(edges.get(module, ())):
            if found := visit(other):
                return found
        done.add(path.pop())
        return []

    return next((found for module in sorted(edges) if (found := visit(module))), [])


def test_no_modules_import_each_other():
    """Imports for types only, and those inside functions, included."""
    module_of = {
        f"qhrtem_jax.{name_of(p)[:-3].replace('/', '.')}".removesuffix(".__init__"): p
        for p in MODULES
    }
    edges = {m: {n for n in imports(p) if n in module_of} - {m} for m, p in module_of.items()}
    assert sum(map(len, edges.values())) > 200
    assert circle(edges) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_modules_are_read_in_one_sitting():
    long = {name_of(p): n for p in MODULES if (n := lines(p)) > LONGEST}
    for folder in ("experiments", "benchmarks"):
        paths = (ROOT / folder).rglob("*.py")
        long |= {str(p): n for p in paths if (n := lines(p)) > 450}
    assert long == {}


def test_no_package_outgrows_the_others():
    sizes: dict[str, int] = {}
    for path in MODULES:
        room = path.relative_to(PACKAGE).parts[0]
        sizes[room] = sizes.get(room, 0) + lines(path)
    whole = sum(sizes.values())
    assert {room: n for room, n in sizes.items() if n > LARGEST_SHARE * whole} == {}


def assignments(module: ast.Module):
    """Lines where something is assigned to an attribute outside of constructors."""
    constructors = ("__init__", "__post_init__", "__new__", "__check_init__")
    inside = {
        id(node)
        for function in ast.walk(module)
        if isinstance(function, ast.FunctionDef) and function.name in constructors
        for node in ast.walk(function)
    }
    for node in ast.walk(module):
        if id(node) in inside:
            continue
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node.lineno
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called == "setattr" or called.endswith("__setattr__"):
                yield node.lineno


def not_frozen(module: ast.Module) -> list[str]:
    """Dataclasses that may be assigned to."""
    return [
        node.name
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef)
        for decorator in node.decorator_list
        if "dataclass" in ast.unparse(decorator) and "frozen=True" not in ast.unparse(decorator)
    ]


def test_dataclasses_are_frozen():
    assert [(name_of(p), found) for p in MODULES if (found := not_frozen(tree(p)))] == []
    assert not_frozen(ast.parse("@dataclasses.dataclass\nclass A:\n x: int")) == ["A"]


def test_states_are_values():
    found = {
        name_of(p): list(assignments(tree(p))) for p in MODULES if name_of(p) not in KEEP_BOOKS
    }
    assert {name: where for name, where in found.items() if where} == {}
    wrong = "class A:\n def f(self):\n  self.x += 1\n  setattr(self, 'y', 2)\n  del self.z"
    assert list(assignments(ast.parse(wrong))) == [3, 4, 5]
    assert not list(assignments(ast.parse("class A:\n def __init__(self):\n  self.x = 1")))
    assert set(KEEP_BOOKS) <= {name_of(p) for p in MODULES}


def options(module: ast.Module):
    """Names of options in texts that are no documentation."""
    texts = {
        id(node.value)
        for node in ast.walk(module)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            names = (m.group(0) for m in OPTION.finditer(node.value))
            yield from (name for name in names if not FILES.search(name))


def test_options_are_known_at_the_edge_only():
    found = {
        name_of(p): list(options(tree(p)))
        for p in MODULES
        if not any(p.relative_to(PACKAGE).match(edge) for edge in THE_EDGE)
    }
    assert {name: names for name, names in found.items() if names} == {}
    assert list(options(ast.parse("raise E('data.mtf_scale: no')"))) == ["data.mtf_scale"]
    assert list(options(ast.parse("f'optimizer.{name}: no'"))) == ["optimizer."]
    assert list(options(ast.parse("raise E('data.mtf, parameters.C1')"))) == [
        "data.mtf",
        "parameters.C1",
    ]
    assert not list(options(ast.parse("raise E('see mtf.csv')")))


GENERIC = ("Coordinates",)
"""Classes whose parameter says which arrays they hold; their fields carry the shapes."""


def is_public(name: str) -> bool:
    return not name.startswith("_") or name.endswith("__")


def is_bare(annotation: ast.AST | None) -> bool:
    """Whether an annotation names an array, wherever in it, but no shape."""
    if annotation is None:
        return False
    if isinstance(annotation, ast.Subscript):
        name = ast.unparse(annotation.value).split(".")[-1]
        kind = getattr(jaxtyping, name, None)
        shaped = isinstance(kind, type) and issubclass(kind, jaxtyping.AbstractDtype)
        if shaped or name in ("Literal", *GENERIC):
            return False
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return is_bare(ast.parse(annotation.value, mode="eval").body)
    if isinstance(annotation, ast.Name | ast.Attribute):
        name = ast.unparse(annotation).split(".")[-1]
        return name in ("Array", "ArrayLike", "NDArray", "ndarray")
    return any(is_bare(part) for part in ast.iter_child_nodes(annotation))


def without_shapes(body: list[ast.stmt]):
    """Parameters, results (by the function's name) and fields that are public, and bare arrays."""
    for node in body:
        if isinstance(node, ast.ClassDef) and is_public(node.name):
            yield from without_shapes(node.body)
            fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
            names = [(ast.unparse(n.target), n.annotation) for n in fields]
        elif isinstance(node, ast.FunctionDef) and is_public(node.name):
            arguments = [n for n in ast.walk(node.args) if isinstance(n, ast.arg)]
            names = [(n.arg, n.annotation) for n in arguments] + [(f"{node.name}()", node.returns)]
        else:
            continue
        yield from (name for name, given in names if is_public(name) and is_bare(given))


def test_public_arrays_carry_shapes():
    public = [
        p for p in MODULES if all(map(is_public, p.relative_to(PACKAGE).with_suffix("").parts))
    ]
    found = {name_of(p): list(without_shapes(tree(p).body)) for p in public}
    assert {name: names for name, names in found.items() if names} == {}
    wrong = (
        "def f(a: np.ndarray, *b: jax.Array, c: Float[Array, ' n']) -> tuple[Array, int]:\n"
        " def inner(d: Array): ...\n"
        "class C:\n e: dict[str, 'NDArray[int]'] | None\n _own: Array\n g: Coordinates[Array]\n"
        " def __call__(self, h: Callable[[Array], int], i: Union[Array, int]): ...\n"
        " def own(self, key: PRNGKeyArray): ...\n"
        " def _own(self, j: Array): ...\n"
        "def _f(k: Array): ...\n"
    )
    assert set(without_shapes(ast.parse(wrong).body)) == {"a", "b", "f()", "e", "h", "i"}


def test_nothing_is_computed_at_import():
    """Not even an array: the first one starts JAX's backend, whose settings come later."""
    names = sorted({f"qhrtem_jax.{name_of(p)[:-3].replace('/', '.')}" for p in MODULES})
    code = (
        f"import importlib; [importlib.import_module(n) for n in {names}]; "
        "from jax._src import xla_bridge; assert not xla_bridge.backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)
