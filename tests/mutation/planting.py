"""A mutant in the place of the real thing: in a function that is there, or at import."""

import inspect
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, FunctionType, ModuleType
from typing import Any

from tests.mutation.mutants import Mutant


def plant(mutant: Mutant) -> None:
    """Give the living function the mutant's code; whoever refers to the function has it then."""
    code = mutant.code()
    for name in mutant.site.where.owner.split("."):
        code = next(
            part for part in code.co_consts if isinstance(part, CodeType) and part.co_name == name
        )
    module = sys.modules[mutant.module]
    function_of(module, mutant.site.where.owner).__code__ = code
    for thing in vars(module).values():  # what was remembered was computed without the mutant
        if callable(clear := getattr(thing, "cache_clear", None)):
            clear()


def function_of(module: ModuleType, owner: str) -> FunctionType:
    found: Any = module
    for name in owner.split("."):
        found = vars(found)[name]
        found = getattr(found, "fget", None) or getattr(found, "__func__", found)
        found = inspect.unwrap(found)
    assert isinstance(found, FunctionType), owner
    return found


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, code: CodeType) -> None:
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        return self._code


class Importer(MetaPathFinder):
    """Imports the mutant for its module; to be put before the ordinary finders."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._mutant.module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        assert spec, fullname
        spec.loader = _Loader(fullname, str(self._mutant.path), self._mutant.code())
        return spec
