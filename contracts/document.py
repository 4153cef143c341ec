"""YAML with line numbers: mappings and lists that know where they and their entries stand."""

from __future__ import annotations

from typing import Any

import yaml

from checks.core.errors import ContractError

MOST_BYTES = 2_000_000
MOST_ALIASES = 100
MOST_NODES = 200_000
MOST_DEPTH = 100
PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge", "value", "binary")
)


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Lined(dict[str, Any]):
    """A mapping that remembers its line and those of its keys."""

    line = 1

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


class LinedList(list[Any]):
    """A list that remembers its line and those of its items."""

    line = 1

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []


def line_at(document: Any, place: list[str | int]) -> int:
    """The line of the deepest part of ``place`` that is there."""
    line = getattr(document, "line", 1)
    for key in place:
        if isinstance(document, Lined) and key in document:
            line, document = document.lines[str(key)], document[str(key)]
        elif isinstance(document, LinedList) and isinstance(key, int) and key < len(document):
            line, document = document.lines[key], document[key]
        else:
            break
    return int(line)


def read_yaml(text: str, path: str, *, times_as_text: bool = False) -> Any:
    """The document with `Lined` mappings; duplicate keys, foreign tags and heavy aliasing are refused.

    With ``times_as_text`` dates and times stay as they are written.
    """
    if len(text) > MOST_BYTES:
        raise ContractError(f"{path}: the document has {len(text):,} characters; at most {MOST_BYTES:,} are read")
    try:
        _survey(text, path)
        node = yaml.compose(text, Loader=_Loader)
        return _Reader(path, times_as_text).value(node) if node is not None else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ContractError(f"{path}{line}: not YAML: {getattr(error, 'problem', None) or error}") from None


def _survey(text: str, path: str) -> None:
    """What a document would grow into is counted before it is built."""
    aliases = depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        aliases += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise ContractError(f"{path}:{line}: it is nested more than {MOST_DEPTH} deep")
    if aliases > MOST_ALIASES:
        raise ContractError(f"{path}: {aliases} aliases; at most {MOST_ALIASES} are allowed")


class _Reader:
    def __init__(self, path: str, times_as_text: bool) -> None:
        self._path = path
        self._times_as_text = times_as_text
        self._made = 0

    def value(self, node: yaml.Node) -> Any:
        self._made += 1
        if self._made > MOST_NODES:
            raise ContractError(f"{self._path}: the document expands to more than {MOST_NODES:,} nodes")
        line = node.start_mark.line + 1
        if node.tag not in PLAIN_TAGS:
            raise ContractError(f"{self._path}:{line}: the tag {node.tag!r} is not allowed; only plain YAML is read")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, line)
        if isinstance(node, yaml.SequenceNode):
            found = LinedList()
            found.line = line
            for item in node.value:
                found.lines.append(item.start_mark.line + 1)
                found.append(self.value(item))
            return found
        if self._times_as_text and node.tag == "tag:yaml.org,2002:timestamp":
            return str(node.value)
        try:
            return yaml.SafeLoader("").construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
            raise ContractError(f"{self._path}:{line}: {node.value!r:.80} cannot be read: {type(error).__name__}") from None

    def _mapping(self, node: yaml.MappingNode, line: int) -> Lined:
        mapping, merged = Lined(), []
        mapping.line = line
        for key_node, value_node in node.value:
            at = key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                given = self.value(value_node)
                merged += given if isinstance(given, list) else [given]
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise ContractError(f"{self._path}:{at}: a key must be a plain text")
            key = str(key_node.value)
            if key in mapping:
                raise ContractError(f"{self._path}:{at}: the key {key!r} is there twice")
            mapping.lines[key] = at
            mapping[key] = self.value(value_node)
        for other in merged:
            if not isinstance(other, Lined):
                raise ContractError(f"{self._path}:{line}: << needs a mapping")
            for key, value in other.items():
                if key not in mapping:
                    mapping[key], mapping.lines[key] = value, other.lines[key]
        return mapping
