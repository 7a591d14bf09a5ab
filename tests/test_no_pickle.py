"""Nothing in the package unpickles, and nothing runs text as code but the places that are named here, with the reason."""

import ast
from pathlib import Path

import pytest

import tinyllm

PACKAGE = Path(tinyllm.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "copyreg", "runpy", "code"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", ".exec_module", "importlib.import_module", "os.system"}
REVIEWED = {
    "engine/primitive.py": {"eval"},                    # builds a function's parameter list from a rule's own signature
    "rl/tasks.py": {".exec_module"},                    # a task may be a Python file of the user's, named on the command line
    "stepper/worked.py": {".exec_module"},              # so may the script that `tinyllm step` and `gradcheck` look into
    "cli/__init__.py": {"importlib.import_module"},     # subcommands, from a list in the file itself
    "cli/bench.py": {"importlib.import_module"},        # benchmarks, the same
    "bench/_contest.py": {"importlib.import_module"},   # what a benchmark starts in a process of its own
}


def names_called(tree):
    """(name, call) of each call of a bare name or of an attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node.func.id, node
            elif isinstance(node.func, ast.Attribute):
                base = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
                yield f"{base}.{node.func.attr}", node      # spec.loader.exec_module is .exec_module


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_is_unpickled_and_no_text_is_run(path):
    name, tree = path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))
    assert not UNSAFE_MODULES & set(imported(tree))
    for called, node in names_called(tree):
        assert called not in UNSAFE_CALLS - REVIEWED.get(name, set()), f"{name}:{node.lineno} calls {called}"
        if called in ("np.load", "numpy.load"):
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            assert ast.literal_eval(given["allow_pickle"]) is False, f"{name}:{node.lineno}"
        if called in ("np.save", "np.savez", "np.savez_compressed"):
            pytest.fail(f"{name}:{node.lineno}: arrays are written as safetensors")


def test_what_was_reviewed_is_still_there():
    called = {name: {called for called, _ in names_called(ast.parse((PACKAGE / name).read_text(encoding="utf-8")))} for name in REVIEWED}
    assert all(calls <= called[name] for name, calls in REVIEWED.items())
