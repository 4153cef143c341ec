"""Templates of outgoing bodies and expressions on replies: Jinja in its sandbox, checked when the configuration is read."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import AfterValidator

MOST_CHARACTERS = 20_000


@lru_cache(maxsize=1)
def _environment() -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    environment.filters["json"] = lambda value: json.dumps(value)
    environment.globals.pop("range", None)  # a body counts nothing, and a loop over a range is how a template never ends
    return environment


@lru_cache(maxsize=1)
def _for_urls() -> Any:
    """Of an address: what a log says of versions and names must not lead elsewhere, so every place is percent-encoded."""
    return _environment().overlay(finalize=lambda value: quote(str(value), safe=""))


@lru_cache(maxsize=256)
def _compiled(text: str, address: bool = False) -> Any:
    return (_for_urls() if address else _environment()).from_string(text)


@lru_cache(maxsize=256)
def _expression(text: str) -> Any:
    return _environment().compile_expression(text, undefined_to_none=True)


WRONG = (TypeError, AttributeError, LookupError, ArithmeticError, MemoryError, ValueError, RecursionError)
"""What an expression of a template can raise beside Jinja's own errors."""


def render(text: str, facts: Mapping[str, Any], *, address: bool = False) -> str:
    """The template with ``facts``, percent-encoded where it makes an ``address``; `ValueError` says what it lacks or where it is wrong."""
    from jinja2 import TemplateError

    try:
        made = str(_compiled(text, address).render(**facts))
    except (TemplateError, *WRONG) as error:
        raise ValueError(f"the template cannot be filled in: {error}") from None
    if len(made) > MOST_CHARACTERS:
        raise ValueError(f"the template makes {len(made)} characters; {MOST_CHARACTERS} are the most")
    return made


def evaluate(text: str, facts: Mapping[str, Any]) -> Any:
    """The value of an expression over ``facts``, such as ``reply.model_version.version``; None where a part is not there."""
    from jinja2 import TemplateError

    try:
        return _expression(text)(**facts)
    except (TemplateError, *WRONG):
        return None


def unknown_names(text: str | None, known: Collection[str]) -> list[str]:
    """The names in a template that nothing gives a value to."""
    from jinja2 import TemplateSyntaxError, meta

    if text is None or "{" not in text:
        return []
    environment = _environment()
    try:
        found = meta.find_undeclared_variables(environment.parse(text))
    except TemplateSyntaxError as error:
        raise ValueError(f"not a Jinja template: {error.message}") from None
    return sorted(found - set(known) - set(environment.globals))


def _template(text: str) -> str:
    from jinja2 import TemplateSyntaxError

    try:
        _compiled(text)
    except TemplateSyntaxError as error:
        raise ValueError(f"not a Jinja template: {error.message} in its line {error.lineno}") from None
    return text


def _checked(text: str) -> str:
    from jinja2 import TemplateSyntaxError

    try:
        _expression(text)
    except TemplateSyntaxError as error:
        raise ValueError(f"{text!r} is not an expression such as reply.version: {error.message}") from None
    return text


Template = Annotated[str, AfterValidator(_template)]
Expression = Annotated[str, AfterValidator(_checked)]
