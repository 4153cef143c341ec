"""From a file to a contract; nothing of the document is dropped in silence."""

from __future__ import annotations

from pathlib import Path

from checks.core.errors import ContractError
from contracts.document import read_yaml
from contracts.lint import lint_document
from contracts.model import Contract
from contracts.parse import contract_of


def load_contract(path: Path, object_name: str | None = None) -> Contract:
    """The contract in the file at ``path``; `ContractError` names file and line."""
    return parse_contract(read_text(path), str(path), object_name)


def load_contracts(path: Path) -> list[Contract]:
    """The contracts of all objects of a document."""
    text = read_text(path)
    first = parse_contract(text, str(path))
    return [first, *(parse_contract(text, str(path), name) for name in first.objects if name != first.object)]


def read_text(path: Path) -> str:
    """The text of a contract's file, or `ContractError`."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ContractError(f"{path}: there is no such contract file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"{path}: cannot be read: {error}") from None


def parse_contract(text: str, path: str, object_name: str | None = None) -> Contract:
    """The contract that the ODCS document ``text`` holds for the object of that name, or for its first object.

    `ContractError` lists, with its line, everything that keeps the document from being used.
    """
    document = read_yaml(text, path, times_as_text=True)
    errors = [str(finding) for finding in lint_document(document, path) if finding.error]
    if errors:
        rest = [f"and {len(errors) - 20} more"] if len(errors) > 20 else []
        raise ContractError("\n".join([*errors[:20], *rest]))
    return contract_of(document, text, path, object_name)
