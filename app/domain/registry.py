"""Plug-ins by name: which detectors, triggers, gates and task types are there?"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Generic, TypeVar

from app.domain.errors import UnknownName

T = TypeVar("T")
C = TypeVar("C")


class Registry(Generic[T]):
    """Maps names to plug-ins of one kind; refuses a name twice, lists the known ones on a miss."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._plugins: dict[str, T] = {}

    def register(self, name: str) -> Callable[[C], C]:
        """Return a decorator that registers a plug-in (an object, or a class without arguments)."""

        def decorate(plugin: C) -> C:
            self.add(name, plugin() if isinstance(plugin, type) else plugin)  # type: ignore[arg-type]  # a decorator cannot say "T, or a class of T"
            return plugin

        return decorate

    def add(self, name: str, plugin: T) -> None:
        """Register one plug-in.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._plugins:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._plugins[name] = plugin

    def get(self, name: str) -> T:
        """Return the plug-in of that name.

        Raises:
            UnknownName: there is none; the message lists the known names.
        """
        try:
            return self._plugins[name]
        except KeyError:
            raise UnknownName(
                f"unknown {self.kind} {name!r}; known: {', '.join(self.names()) or 'none'}"
            ) from None

    def names(self) -> list[str]:
        """Return every registered name, sorted."""
        return sorted(self._plugins)

    def items(self) -> Iterator[tuple[str, T]]:
        """Yield (name, plug-in), sorted by name."""
        for name in self.names():
            yield name, self._plugins[name]

    def __contains__(self, name: object) -> bool:
        return name in self._plugins


def scan(package: ModuleType) -> None:
    """Import every module of a package, so that each registers what it holds."""
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
