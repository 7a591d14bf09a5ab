"""Everything that `import tinyllm` offers says what it is."""

import importlib
import inspect
import pkgutil
import types

import pytest

import tinyllm as tl

NAMESPACES = ("", "F", "nn", "optim", "models", "tokenizers", "text", "weights", "train", "rl", "ops")
RULES = ("forward", "samples")      # of a primitive: one expression each, explained by the class


def public(namespace):
    """The functions and classes of this package that a namespace offers, by name."""
    place = getattr(tl, namespace) if namespace else tl
    found = {name: getattr(place, name) for name in dir(place) if not name.startswith("_")}
    return {name: thing for name, thing in found.items()
            if not isinstance(thing, types.ModuleType) and getattr(thing, "__module__", "").startswith("tinyllm")}


def silent_methods(cls):
    """The names of public methods and properties that say nothing and inherit nothing."""
    for name, member in vars(cls).items():
        if name.startswith("_") or name in RULES or name.startswith("grad_"):
            continue
        if isinstance(member, (types.FunctionType, property, classmethod, staticmethod)) and not inspect.getdoc(getattr(cls, name)):
            yield f"{cls.__name__}.{name}"


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_every_public_name_has_a_docstring(namespace):
    names = public(namespace)
    assert names
    silent = [name for name, thing in names.items() if not (vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__)]
    silent += [method for thing in names.values() if inspect.isclass(thing) for method in silent_methods(thing)]
    assert silent == []


def test_every_file_opens_with_what_it_is():
    modules = [info.name for info in pkgutil.walk_packages(tl.__path__, "tinyllm.")
               if not info.name.endswith("__main__") and ".bench._torch" not in info.name]      # these need PyTorch
    assert [name for name in modules if not importlib.import_module(name).__doc__] == []

