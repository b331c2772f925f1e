"""The command line, whole: `bench.cli` plus what the server and its participants need."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from bench.cli import Json, app, print_json, print_table, run
from bench.errors import UserError

from . import admin_accounts, admin_challenges, admin_operations
from .admin import DatabaseUrl, DataDir, opened

SERVER = "http://127.0.0.1:8000"

ServerUrl = Annotated[
    str, typer.Option("--server", envvar="TILTYARD_SERVER", help="URL of the server.")
]


class SandboxName(StrEnum):
    """Where submissions run. The process sandbox isolates nothing."""

    docker = "docker"
    process = "process"


class SubmissionKind(StrEnum):
    """What can be submitted."""

    model = "model"
    untargeted_attack = "untargeted-attack"
    targeted_attack = "targeted-attack"


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 8000.")] = None,
    database: DatabaseUrl = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Matches at once; 0 serves pages only; 1.")
    ] = None,
    data_dir: DataDir = None,
    sandbox: Annotated[
        SandboxName | None,
        typer.Option(help="Where submissions run; docker. process isolates nothing."),
    ] = None,
) -> None:
    """Run the challenge server: one process, SQLite, Docker."""
    import uvicorn

    from . import logs, settings
    from .app import create_app

    chosen = settings.load(
        host=host,
        port=port,
        database_url=database,
        workers=workers,
        data_dir=data_dir,
        sandbox=sandbox.value if sandbox else None,
    )
    logs.configure(chosen.log_format, chosen.log_level)
    uvicorn.run(
        create_app(chosen),
        host=chosen.host,
        port=chosen.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
    )


@app.command()
def new(
    kind: Annotated[SubmissionKind, typer.Argument(help="What to submit.")],
    folder: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
    name: Annotated[str | None, typer.Option(help="Its name; the folder's by default.")] = None,
    template: Annotated[
        str, typer.Option(help="numpy; pytorch for models, foolbox for attacks.")
    ] = "numpy",
) -> None:
    """Write a submission that runs, to start from."""
    from . import packaging

    for path in packaging.new(kind.value, folder, name, template=template):
        typer.echo(str(path))
    typer.echo(f"next: tiltyard test {folder}")


@app.command("test")
def try_submission(
    folder: Annotated[Path, typer.Argument(help="A submission's folder.")],
    sandbox: Annotated[
        SandboxName | None,
        typer.Option(help="docker where an engine answers; process isolates nothing."),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="How many images to play on.")] = 5,
    track: Annotated[
        str | None, typer.Option(help="Track to try it on; the folder's own by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Try a submission with the server's own referee, sandbox and limits."""
    from . import local_test, packaging

    packaging.read_manifest(folder, track)  # before Docker is looked for: one mistake, one line
    chosen: Literal["docker", "process"] = sandbox.value if sandbox else _sandbox_here()
    result = local_test.test_submission(
        folder,
        sandbox=chosen,
        images=images,
        track=track,
        report=lambda line: typer.echo(line, err=as_json),
    )
    if as_json:
        print_json(result.to_json())
    if not result.passed:
        raise typer.Exit(1)


@app.command()
def submit(
    what: Annotated[Path, typer.Argument(help="A submission's folder, or a saved image (.tar).")],
    track: Annotated[
        str | None, typer.Option(help="Track to enter; the one in tiltyard.toml by default.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name on the board; the one in tiltyard.toml by default.")
    ] = None,
    server: ServerUrl = SERVER,
    token: Annotated[
        str | None,
        typer.Option(envvar="TILTYARD_TOKEN", help="Your token; better in TILTYARD_TOKEN."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until it is scored or refused.")] = False,
    as_json: Json = False,
) -> None:
    """Submit a folder or a saved image to a server."""
    from . import submitting

    view = submitting.submit(
        what,
        track=track,
        name=name,
        server=server,
        token=token,
        wait=wait,
        report=lambda line: typer.echo(line, err=as_json),
    )
    if as_json:
        print_json(view)
    if view["state"] == "rejected":
        raise typer.Exit(1)


@app.command("token")
def token_(
    name: Annotated[str, typer.Argument(help="Your account.")],
    server: ServerUrl = SERVER,
    scope: Annotated[
        admin_accounts.ScopeName, typer.Option(help="What the token may do.")
    ] = admin_accounts.ScopeName.submit,
    days: Annotated[float, typer.Option(help="How long it is good.")] = 90.0,
    label: Annotated[str, typer.Option(help="What it is for, in your words.")] = "",
) -> None:
    """Make a token of your account, by its password. It is printed once and not kept."""
    from .client import Client

    password = typer.prompt("Password", hide_input=True, err=True)
    with Client(server) as client:
        typer.echo(client.new_token(name, password, scope.value, days, label))


@app.command()
def board(
    track: Annotated[str, typer.Argument(help="NAME of a track.")],
    server: ServerUrl = SERVER,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the board as CSV.")] = False,
) -> None:
    """Show a board."""
    from . import client, submitting

    with client.Client(server, None) as connection:
        if as_csv:
            typer.echo(connection.board_csv(track), nl=False)
            return
        view = connection.board(track)
    if as_json:
        print_json(view)
        return
    print_table(*submitting.board_table(view), title=view["track"]["title"])


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine can do, and what to install for the rest."""
    from . import doctor as checks

    found = checks.examine()
    if as_json:
        print_json([check.to_json() for check in found])
    else:
        print_table(
            ["part", "state", "detail"],
            ([c.part, "ok" if c.ok else "missing", c.detail] for c in found),
        )
    if not all(check.ok for check in found if check.required):
        raise typer.Exit(1)


admin = typer.Typer(
    no_args_is_help=True, help="For operators: accounts, tokens, challenges, rounds, scores."
)
app.add_typer(admin, name="admin")
admin.add_typer(admin_accounts.app)
admin.add_typer(admin_challenges.app)
admin.add_typer(admin_operations.app)


@admin.command("reap")
def reap(data_dir: DataDir = None, database: DatabaseUrl = None) -> None:
    """Remove containers of this server that no live job owns; safe beside a running server."""
    from . import housekeeping

    with opened(data_dir, database) as place:
        removed = housekeeping.reap_once(place.settings, place.database)
        typer.echo("\n".join(removed) if removed else "nothing to remove")


def main() -> None:
    """The console script."""
    run(app)


def _sandbox_here() -> Literal["docker", "process"]:
    from . import packaging

    try:
        with packaging.docker_client():
            return "docker"
    except UserError as error:
        typer.echo(
            f"no Docker here ({error}); using the process sandbox, which isolates nothing", err=True
        )
        return "process"


if __name__ == "__main__":
    main()
