"""The edge of every command: configuration in, errors out as one line, never a traceback."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from checks.core.errors import ConfigError, ContractError, DriftdError

if TYPE_CHECKING:
    from monitor.config.model import Config
    from monitor.pipeline import Pipeline

OK, BREACH, USAGE, UNKNOWN = 0, 1, 2, 3


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command whose `DriftdError` ends it with one line: exit 2 for configuration, 3 for what cannot be known."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (ConfigError, ContractError) as error:
            typer.echo(f"driftd: {error}", err=True)
            raise typer.Exit(USAGE) from None
        except DriftdError as error:
            typer.echo(f"driftd: {error}", err=True)
            raise typer.Exit(UNKNOWN) from None
        except BrokenPipeError:
            sys.stderr.close()
            raise typer.Exit(OK) from None
        except (typer.Exit, typer.Abort, KeyboardInterrupt, SystemExit):
            raise
        except Exception as error:  # the edge of the command: no traceback to the user
            typer.echo(f"driftd: unexpected {type(error).__name__}: {error}; with -v there is a traceback", err=True)
            if _verbose(args, kwargs):
                raise
            raise typer.Exit(UNKNOWN) from None

    return wrapped


def _verbose(args: Any, kwargs: Any) -> bool:
    context = kwargs.get("context")
    return bool(context is not None and (context.obj or {}).get("verbose"))


def config_of(context: typer.Context) -> Config:
    """The configuration that the options name."""
    from monitor.app import load_config
    from monitor.logs import configure

    configure(verbose=bool(context.obj["verbose"]), json=not sys.stderr.isatty())
    return load_config(context.obj["config"])


def store_of(context: typer.Context) -> Any:
    """The store, also of a configuration that is wrong elsewhere: a person must be able to act while it is mended."""
    from monitor.app import config_path
    from monitor.config.load import store_of_file
    from monitor.store.store import Store

    try:
        return Store(config_of(context).store)
    except ConfigError as error:
        url = store_of_file(config_path(context.obj["config"]).absolute())
        if url is None:
            raise
        typer.echo(f"driftd: warning: the configuration is wrong, and the store is used all the same: {str(error).splitlines()[0]}", err=True)
        return Store(url)


def pipeline_of(context: typer.Context, *, store: bool = True) -> Pipeline:
    """A pipeline with workers in this process."""
    from monitor.app import inline_workers
    from monitor.clock import system_clock
    from monitor.pipeline import Pipeline
    from monitor.store.store import Store

    config = config_of(context)
    return Pipeline(config, Store(config.store) if store else None, inline_workers(), system_clock())


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")


def table(rows: list[dict[str, Any]], columns: dict[str, str], empty: str, most: int = 90) -> None:
    """Rows as a plain table: aligned, without borders; ``columns`` maps keys to headings."""
    if not rows:
        typer.echo(empty)
        return
    texts = [[_cell(row.get(key), most) for key in columns] for row in rows]
    widths = [max(len(h), *(len(t[i]) for t in texts)) for i, h in enumerate(columns.values())]
    for line in [list(columns.values()), *texts]:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any, most: int) -> str:
    text = "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
    return text if len(text) <= most else text[: most - 3] + "..."
