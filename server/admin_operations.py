"""`tiltyard admin`: check, backup and restore, beside a running server."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.cli import Json, print_json

from .admin import DatabaseUrl, DataDir

app = typer.Typer()


@app.command("check")
def check(
    quick: Annotated[
        bool, typer.Option("--quick", help="Artefacts have to be there; don't read them.")
    ] = False,
    sandboxes: Annotated[bool, typer.Option(help="Look for sandboxes that no job owns.")] = True,
    data_dir: DataDir = None,
    database: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Check what must always hold: jobs, results, boards, quotas, events, artefacts, sandboxes."""
    from . import checking, settings

    chosen = settings.load(data_dir=data_dir, database_url=database)
    report = checking.check_here(chosen, quick=quick, sandboxes=sandboxes)
    if as_json:
        print_json(report.to_json())
    else:
        for finding in report.findings:
            typer.echo(finding.sentence())
        for note in report.notes:
            typer.echo(f"note: {note}", err=True)
        if report.clean:
            typer.echo(f"all holds: {', '.join(report.checked)}")
    if not report.clean:
        raise typer.Exit(1)
