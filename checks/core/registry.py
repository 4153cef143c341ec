"""Plugins by kind: built-ins found in a package, third parties by entry points, into one registry."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from checks.core.errors import ConfigError, DriftdError

T = TypeVar("T")


class Registry(Generic[T]):
    """The plugins of one kind of thing, each under its published name.

    Parameters
    ----------
    noun : what a plugin is called in messages, such as ``statistic``.
    package : the package whose modules are imported by `discover`.
    group : the entry-point group of third parties.
    """

    def __init__(self, noun: str, package: str, group: str) -> None:
        self.noun = noun
        self._package = package
        self._group = group
        self._plugins: dict[str, T] = {}
        self._discovered = False

    def register(self, kind: str) -> Callable[[T], T]:
        """Decorate the plugin named ``kind``; a second one of that name is refused."""

        def add(plugin: T) -> T:
            if kind in self._plugins and self._plugins[kind] is not plugin:
                raise DriftdError(f"two plugins claim the {self.noun} {kind!r}")
            self._plugins[kind] = plugin
            return plugin

        return add

    def discover(self) -> Registry[T]:
        """Import every module of the package and every entry point, once."""
        if not self._discovered:
            self._discovered = True
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                if not module.name.startswith("_"):
                    importlib.import_module(f"{self._package}.{module.name}")
            for point in entry_points(group=self._group):
                self.register(point.name)(point.load())
        return self

    def __getitem__(self, kind: str) -> T:
        self.discover()
        if kind not in self._plugins:
            raise ConfigError(f"there is no {self.noun} {kind!r}; allowed are {', '.join(self.kinds())}")
        return self._plugins[kind]

    def __contains__(self, kind: object) -> bool:
        return kind in self.discover()._plugins

    def __iter__(self) -> Iterator[str]:
        return iter(self.kinds())

    def kinds(self) -> list[str]:
        """The names, sorted."""
        return sorted(self.discover()._plugins)

    def items(self) -> list[tuple[str, T]]:
        """Names and plugins, sorted by name."""
        return [(kind, self._plugins[kind]) for kind in self.kinds()]
