"""`tiltyard admin`: check, backup and restore, beside a running server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import Json, print_json

from .admin import DatabaseUrl, DataDir

if TYPE_CHECKING:
    from .backup import Manifest

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


@app.command("backup")
def back_up(
    target: Annotated[Path, typer.Argument(help="A new folder, or a new file NAME.tar.")],
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy artefacts; don't link them where that is possible.")
    ] = False,
    data_dir: DataDir = None,
    database: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Back up the record and the artefacts, of one moment, while the server runs."""
    from . import backup, settings

    made = backup.backup(
        settings.load(data_dir=data_dir, database_url=database), target.absolute(), copy=copy
    )
    _print_backup(made, f"backed up to {target}", as_json)


@app.command("restore")
def restore(
    source: Annotated[Path, typer.Argument(help="What `tiltyard admin backup` wrote.")],
    data_dir: DataDir = None,
    database: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Put a backup into a new folder (and an empty database), every digest checked."""
    from . import backup, settings

    chosen = settings.load(data_dir=data_dir, database_url=database)
    made = backup.restore(source.absolute(), chosen)
    _print_backup(made, f"restored to {chosen.data_dir}", as_json)


def _print_backup(made: Manifest, what: str, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print_json(asdict(made))
        return
    mib = made.artefact_bytes / 2**20
    typer.echo(f"{what}: {made.engine} record, {made.artefacts} artefacts ({mib:.1f} MiB)")
