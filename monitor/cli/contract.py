"""contract infer, lint, test, diff."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from monitor.cli.edge import BREACH, OK, UNKNOWN, USAGE, config_of, guarded, print_json, table

contract = typer.Typer(help="Data contracts: infer, lint, test, diff.", no_args_is_help=True)
CODES = {"pass": OK, "warn": BREACH, "fail": BREACH}


@contract.callback()
def _group() -> None:
    """Data contracts of the Open Data Contract Standard."""


@contract.command()
@guarded
def infer(
    source: Annotated[str, typer.Argument(help="A file, directory, glob or address, as in config.yaml.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file, which must not be there; else to standard output.")] = None,
    name: Annotated[str, typer.Option("--name", help="The name of the contract and its object.")] = "rows",
    timestamp: Annotated[str | None, typer.Option("--timestamp", help="The column of event times; else the only timestamp.")] = None,
    ignore: Annotated[list[str] | None, typer.Option("--ignore", help="A column to leave out; may be given again.")] = None,
) -> None:
    """Write a commented contract that a source's rows support."""
    from checks.core.errors import ConfigError
    from monitor.evaluation.adhoc import Given, event_time, inferred_document, open_address
    from monitor.worker import one_thread

    one_thread()
    opened, kind = open_address(source, Path.cwd())
    given = Given(opened, kind, event_time(None, opened.types(), timestamp))
    text = inferred_document(given, source, name, ignore or [])
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{out}: the file is there already") from None
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror}") from None
    typer.echo(f"{out}: written; read it, then name it under contract: in config.yaml", err=True)


@contract.command()
@guarded
def lint(
    files: Annotated[list[Path], typer.Argument(help="Contract files.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is wrong with contracts before any data is seen. Exit 0 clean, 1 when a rule cannot run, 2 when refused."""
    from checks.core.errors import ContractError
    from contracts.document import read_yaml
    from contracts.lint import Finding, lint_document
    from contracts.load import parse_contract, read_text

    found: list[Finding] = []
    rules: dict[str, int] = {}
    for path in files:
        try:
            text = read_text(path)
            own = lint_document(read_yaml(text, str(path), times_as_text=True), str(path))
            if not any(f.error for f in own):
                rules[str(path)] = len(parse_contract(text, str(path)).rules)
        except ContractError as error:
            where, _, _ = str(error).partition(": ")
            line = where.rpartition(":")[2]
            own = [Finding(str(path), int(line) if line.isdigit() else 1, str(error).removeprefix(f"{where}: "))]
        found += own
    if as_json:
        print_json([{"path": f.path, "line": f.line, "grade": f.grade, "message": f.message} for f in found])
    else:
        for finding in found:
            typer.echo(str(finding))
        for file, count in rules.items():
            typer.echo(f"{file}: {count} rules")
    grades = {f.grade for f in found}
    raise typer.Exit(USAGE if "error" in grades else BREACH if "warning" in grades else OK)


@contract.command(name="test")
@guarded
def rows_against(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="A contract file, or the name of a monitor.")],
    data: Annotated[str | None, typer.Option("--data", help="The rows: a file, directory, glob or address. Of a monitor its own source.")] = None,
    against: Annotated[str | None, typer.Option("--against", help="Training rows to compare with: an address, or `reference` of a monitor.")] = None,
    object_name: Annotated[str | None, typer.Option("--object", help="The contract's object that the rows are; else its first.")] = None,
    timestamp: Annotated[str | None, typer.Option("--timestamp", help="The column of event times.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="Only rows from this time on; of a monitor its start.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Only rows before this time; of a monitor a week after --from.")] = None,
    others: Annotated[list[str] | None, typer.Option("--with", help="NAME=SOURCE of another object that foreign keys refer to.")] = None,
    quarantine: Annotated[Path | None, typer.Option("--quarantine", help="Write the offending rows, unmasked, into this folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Test rows against a contract. Exit 0 pass, 1 warn or fail, 2 refused, 3 could not know."""
    from monitor.cli.contract_rows import Request, run_test
    from monitor.worker import one_thread

    one_thread()
    request = Request(target, data, against, object_name, timestamp, since, until, tuple(others or ()), quarantine)
    found = run_test(request, lambda: config_of(context))
    if as_json:
        print_json(found)
    else:
        _print(found)
    raise typer.Exit(CODES.get(str(found["verdict"]), UNKNOWN))


def print_skipped(skipped: list[dict[str, Any]], indent: str) -> None:
    """The rules that did not run; many for one reason in one line."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for item in skipped:
        groups.setdefault((item["status"], item["reason"]), []).append(item)
    for (status, reason), items in groups.items():
        named = ", ".join(f"{item['rule']} (line {item['line']})" for item in items[:3]) + (f" and {len(items) - 3} more" if len(items) > 3 else "")
        typer.echo(f"{indent}{status} {named}: {reason}")


def _print(found: dict[str, Any]) -> None:
    rules = found["rules"]
    typer.echo(
        f"{found['contract']['id']} {found['contract']['version']}: {found['verdict']}; {found['rows']:,} rows; of {rules['total']} rules {rules['executed']} "
        f"executed, {rules['manual']} manual, {rules['not_evaluated']} not evaluated, {rules['error']} in error"
    )
    for violation in found["violations"]:
        typer.echo(f"  {violation['verdict']} {violation['rule']} (line {violation['line']}): {violation['reason']}; promised: {violation['threshold']}")
        if violation["cause"]:
            typer.echo(f"       suspected: {violation['cause']['sentence']}")
        for sample in violation["samples"][:3]:
            where = ", ".join(f"{key} {sample[key]}" for key in ("row", "id") if key in sample and not isinstance(sample[key], dict))
            hidden = f"{sample['type']} {sample['shape']!r} #{sample['hash']}" if sample["type"] != "null" else "null"
            shown = sample.get("value", hidden)
            typer.echo(f"       {where}: {shown}")
    print_skipped(found["not_evaluated"], "  ")
    for rule, why in found["apart"].items():
        typer.echo(f"  counted apart {rule}: {why}")
    for skew in found.get("skew") or []:
        typer.echo(f"  {skew['verdict']} skew {skew['kind']}: {skew['sentence']}")
    if found.get("quarantine"):
        written = found["quarantine"]
        typer.echo(f"  quarantine: {written['rows']:,} rows in {written['path']}" if written["path"] else "  quarantine: no row to write")


@contract.command()
@guarded
def diff(
    old: Annotated[Path, typer.Argument(help="The contract as it was.")],
    new: Annotated[Path, typer.Argument(help="The contract as it is to be.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what changed, and for whom it breaks. Exit 0 when nothing breaks, 1 when something does."""
    from contracts.diff import diff as changes_between
    from contracts.load import load_contracts

    before, after = load_contracts(old), load_contracts(new)
    changes = changes_between(before, after)
    if as_json:
        print_json([{"path": c.path, "what": c.what, "effect": c.effect, "breaks": list(c.breaks), "line": c.line} for c in changes])
    else:
        rows = [{"effect": c.effect, "breaks": ", ".join(c.breaks) or "nobody", "path": c.path, "what": c.what} for c in changes]
        table(rows, {"effect": "effect", "breaks": "breaks", "path": "rule", "what": "change"}, "no change of what is promised")
    breaking = any(c.breaks for c in changes)
    if breaking and not as_json and before[0].version.split(".")[0] == after[0].version.split(".")[0]:
        typer.echo(f"breaking, and the version went from {before[0].version} to {after[0].version}: raise its first number", err=True)
    raise typer.Exit(BREACH if breaking else OK)


def add(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.add_typer(contract, name="contract")
