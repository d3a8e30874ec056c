"""Checks the direction of imports and other rules on the source (CONTRIBUTING.md, "Where things live")."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_LINES = 500

CORE_MAY_IMPORT = {
    "PIL",
    "numpy",
    "pyarrow",
    "imagehash",
    "pdqhash",
    "pillow_heif",
    "fastavro",
    "fastwarc",
    "zstandard",
    "beam_dedup.core",
}
TRANSFORMS_MAY_IMPORT = CORE_MAY_IMPORT | {
    "apache_beam",
    "boto3",
    "botocore",
    "google",
    "psutil",
    "requests",
    "transforms",
}
APPLICATION_MAY_NOT_IMPORT = {"tests", "templates", "benchmarks"}

# A room is a package inside a layer. It may import itself, the modules directly in its parent package, and
# these rooms.
ROOMS_MAY_IMPORT: dict[str, set[str]] = {
    "beam_dedup.core.metadata": set(),
    "beam_dedup.core.imaging": {"beam_dedup.core.metadata"},
    "beam_dedup.core.archives": {"beam_dedup.core.imaging", "beam_dedup.core.metadata"},
    "beam_dedup.core.reading": {
        "beam_dedup.core.archives",
        "beam_dedup.core.imaging",
        "beam_dedup.core.metadata",
    },
    "beam_dedup.core.shards": {
        "beam_dedup.core.archives",
        "beam_dedup.core.imaging",
        "beam_dedup.core.metadata",
    },
    "beam_dedup.core.matching": set(),
    "beam_dedup.core.stream": {"beam_dedup.core.matching"},
    "transforms.storage": set(),
    "transforms.stream": {"transforms.storage"},
    "beam_dedup.options": set(),
    "beam_dedup.runners": {"beam_dedup.options"},
    "beam_dedup.batch": {"beam_dedup.options", "beam_dedup.review", "beam_dedup.runners"},
    "beam_dedup.stream": {"beam_dedup.options", "beam_dedup.runners"},
    "beam_dedup.cleaning": {"beam_dedup.options"},
    "beam_dedup.review": {"beam_dedup.options"},
    "beam_dedup.notebook": {"beam_dedup.options", "beam_dedup.review"},
    "beam_dedup.dataflow": {"beam_dedup.options", "beam_dedup.runners"},
    "beam_dedup.beam_yaml": set(),
}


def modules(*folders: str) -> dict[str, Path]:
    """Returns the source files below some directories, by module name."""
    found = {}
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


CORE = modules("beam_dedup/core")
TRANSFORMS = modules("transforms")
APPLICATION = {name: path for name, path in modules("beam_dedup").items() if name not in CORE}
OURS = CORE | TRANSFORMS | APPLICATION


def each(group: dict[str, Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", list(group))


def tree(name: str) -> ast.Module:
    return ast.parse(OURS[name].read_text("utf-8"))


def imports(nodes: ast.AST) -> Iterator[str]:
    """Yields everything that a module imports, as absolute dotted names."""
    for node in ast.walk(nodes):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_below(name: str, packages: set[str]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def foreign(name: str, allowed: set[str]) -> list[str]:
    """Returns the imports of a module that are neither allowed nor from the standard library."""
    return [
        imported
        for imported in imports(tree(name))
        if imported.split(".")[0] not in sys.stdlib_module_names and not is_below(imported, allowed)
    ]


def test_modules_and_imports_are_found() -> None:
    assert {"beam_dedup.core.model", "beam_dedup.core"} <= set(CORE)
    assert {"transforms.near", "transforms"} <= set(TRANSFORMS)
    assert {"beam_dedup.cli", "beam_dedup"} <= set(APPLICATION)
    assert any("apache_beam" in imported for name in TRANSFORMS for imported in imports(tree(name)))


@each(CORE)
def test_core_does_not_import_beam(name: str) -> None:
    assert not foreign(name, CORE_MAY_IMPORT)


@each(TRANSFORMS)
def test_composites_import_the_core_but_not_the_application(name: str) -> None:
    assert not foreign(name, TRANSFORMS_MAY_IMPORT)


@each(APPLICATION)
def test_application_imports_no_tests_or_templates(name: str) -> None:
    assert not [
        imported for imported in imports(tree(name)) if is_below(imported, APPLICATION_MAY_NOT_IMPORT)
    ]


def room_of(name: str) -> str:
    return next((room for room in ROOMS_MAY_IMPORT if is_below(name, {room})), "")


def test_every_package_is_in_the_table_of_rooms() -> None:
    packages = {name for name, path in OURS.items() if path.name == "__init__.py"}
    assert packages == {*ROOMS_MAY_IMPORT, "beam_dedup", "beam_dedup.core", "transforms"}


@each({name: path for name, path in OURS.items() if room_of(name)})
def test_rooms_import_only_allowed_rooms(name: str) -> None:
    """For example, the core's matching room does not import its stream room, and batch does not import
    stream.
    """
    room = room_of(name)
    ring = room.rpartition(".")[0]
    for imported in imports(tree(name)):
        other = room_of(imported)
        if other and other != room and other.rpartition(".")[0] == ring:
            assert other in ROOMS_MAY_IMPORT[room], f"{room} imports {other}"


@each({name: path for name, path in OURS.items() if name.startswith("beam_dedup.batch")})
def test_batch_does_not_import_the_streaming_protocol(name: str) -> None:
    todo, seen = [name], set[str]()
    while todo:
        module = todo.pop()
        if module in seen or module not in OURS:
            continue
        seen.add(module)
        assert not module.startswith(("beam_dedup.core.stream", "beam_dedup.stream", "transforms.stream")), (
            module
        )
        todo += [module_of(imported) for imported in imports(tree(module))]


def test_the_package_of_the_core_imports_nothing() -> None:
    """Importing a module of the core imports its package too, which must not bring Beam."""
    assert not list(imports(tree("beam_dedup.core")))


def test_the_import_root_imports_our_modules_only_for_type_checkers() -> None:
    """The core and `dedup --help` import this package, and must not wait for Beam."""
    at_run_time = [node for node in tree("beam_dedup").body if not _only_for_types(node)]
    assert {imported for node in at_run_time for imported in imports(node)} == {
        "typing.TYPE_CHECKING",
        "importlib",
    }


def test_package_of_composites_only_re_exports() -> None:
    """It registers nothing, so results do not depend on importing it."""
    for node in tree("transforms").body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_all = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        assert is_docstring or is_all or isinstance(node, ast.ImportFrom), ast.unparse(node)


def test_no_circular_imports() -> None:
    """There is an order of the modules in which each imports only earlier ones."""
    waiting = {name: {module_of(imported) for imported in imports(tree(name))} for name in OURS}
    while free := [name for name, needed in waiting.items() if not needed & waiting.keys()]:
        for name in free:
            del waiting[name]
    assert not waiting


def module_of(imported: str) -> str:
    """Returns the module of an import: `from a import b` imports module `a.b` if it exists, else a name of
    module `a`.
    """
    return imported if imported in OURS else imported.rpartition(".")[0]


def test_importing_the_command_line_does_not_import_beam() -> None:
    """Imports outside functions run at once, and `dedup --help` must not wait for Beam."""
    todo, seen = ["beam_dedup.cli"], set[str]()
    while todo:
        name = todo.pop()
        if name in seen or name not in OURS:
            continue
        seen.add(name)
        at_once = [node for node in tree(name).body if not _only_for_types(node)]
        for node in at_once:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            for imported in imports(node):
                assert not is_below(imported, {"apache_beam", "transforms"}), f"{name} imports {imported}"
                todo.append(module_of(imported))
    assert len(seen) > 1


def _only_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not node.orelse


@each(OURS)
def test_modules_are_not_too_long(name: str) -> None:
    assert len(OURS[name].read_text("utf-8").splitlines()) <= MAX_LINES


@each(OURS)
def test_no_bare_except(name: str) -> None:
    """A handler names the exceptions that it catches; one that catches BaseException raises it again."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}"
            if "BaseException" in ast.unparse(node.type):
                assert any(isinstance(inner, ast.Raise) for inner in node.body), f"line {node.lineno}"


class TestComposites:
    """Rules for modules that Beam imports and pickles."""

    @each(TRANSFORMS)
    def test_annotations_are_objects(self, name: str) -> None:
        """Beam infers Any from annotations that are strings, and then checks no types."""
        assert "__future__.annotations" not in set(imports(tree(name)))
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.FunctionDef):
                arguments = [*node.args.args, *node.args.kwonlyargs]
                for annotation in [node.returns, *(argument.annotation for argument in arguments)]:
                    assert not (isinstance(annotation, ast.Constant) and isinstance(annotation.value, str)), (
                        f"line {node.lineno}: {annotation.value!r}"
                    )

    @each(TRANSFORMS)
    def test_no_lambda_is_a_step(self, name: str) -> None:
        """The label of such a step would contain its line number, and everything in scope would be sent to
        the workers.
        """
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("beam."):
                for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                    assert not isinstance(argument, ast.Lambda), f"line {node.lineno}"

    @each(TRANSFORMS)
    def test_every_step_has_a_label(self, name: str) -> None:
        """In `x | beam.GroupByKey()` Beam chooses the label; `x | "Meet" >> beam.GroupByKey()` has our own."""
        for node in ast.walk(tree(name)):
            if (
                isinstance(node, ast.BinOp)
                and isinstance(node.op, ast.BitOr)
                and isinstance(node.right, ast.Call)
            ):
                called = ast.unparse(node.right.func)
                assert not called.startswith("beam."), f"line {node.lineno}: {called} has no label"
                assert not called.rpartition(".")[2].lstrip("_")[:1].isupper(), (
                    f"line {node.lineno}: {called}"
                )

    @each(TRANSFORMS)
    def test_steps_are_not_defined_inside_functions(self, name: str) -> None:
        """Workers import steps by name. A function or class inside another would be pickled, with
        everything in scope.
        """
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.FunctionDef):
                inner = [one for one in ast.walk(node) if isinstance(one, ast.FunctionDef | ast.ClassDef)]
                assert inner == [node], f"line {node.lineno}: {node.name} defines another"
