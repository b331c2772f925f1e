"""The command line, local half: everything that needs no server.

Nothing heavy is imported here.

Exit codes: 0 done; 1 a check does not hold; 2 the user's mistake (one line, no traceback); 3 ours.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .errors import InfrastructureError, SubmissionError, UserError

if TYPE_CHECKING:
    from .compare import Comparison, Difference, Discordant
    from .distort import Distorted
    from .invariance import Invariance
    from .match import Outcome
    from .plugins import Kind
    from .runs import Run
    from .score import Failures, Score

app = typer.Typer(
    name="tiltyard",
    help="Where vision models and attacks meet.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

OURS = "this is a fault of Tiltyard's, not yours; please report it with the lines above"

FAILURES_MEANING = {
    "infinite": "an image that was not fooled counts as infinite distance",
    "worst_case": "an image that was not fooled counts as its farthest corner",
}
FAILURES_HELP = "What an image that was not fooled counts in a median."

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


class ListKind(StrEnum):
    """What can be listed."""

    models = "models"
    attacks = "attacks"
    datasets = "datasets"
    distortions = "distortions"
    tracks = "tracks"
    papers = "papers"


class FailuresName(StrEnum):
    """What an image that was not fooled counts in a median: infinity, or its farthest corner."""

    infinite = "infinite"
    worst_case = "worst_case"


class CacheAction(StrEnum):
    """What to do with the kept results."""

    info = "info"
    clear = "clear"


class NormName(StrEnum):
    """Distances, on values in [0, 1]; L0 counts pixels."""

    l0 = "l0"
    l1 = "l1"
    l2 = "l2"
    linf = "linf"


def run(application: Callable[[], Any]) -> None:
    """Call a Typer application and turn errors into exit codes."""
    from attacks.errors import UsageError as AttackUsageError
    from models.errors import UsageError as ModelUsageError

    try:
        application()
    except (UserError, AttackUsageError, ModelUsageError) as error:
        _stop(f"error: {error}", 2)
    except SubmissionError as error:
        _stop(f"the submission failed: {error}", 1)
    except InfrastructureError as error:
        _stop(f"error, not of your making: {error}", 3)
    except KeyboardInterrupt:
        _stop("stopped", 130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone; nothing is left to say
        sys.exit(0)
    except OSError as error:
        if error.filename is None:
            traceback.print_exc()
            _stop(OURS, 3)
        _stop(f"error: can't use {error.filename}: {error.strerror}; name another place", 2)
    except Exception:
        traceback.print_exc()
        _stop(OURS, 3)


def print_json(document: object) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_table(columns: list[str], rows: Iterable[Iterable[str]], *, title: str = "") -> None:
    """A table for people: ruled on a terminal, plain columns when piped."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    table = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


@app.command("list")
def list_plugins(
    kind: Annotated[ListKind, typer.Argument(help="What to list.")], as_json: Json = False
) -> None:
    """List models, attacks, data sets, distortions, tracks or papers, with their parameters."""
    from .plugins import plugins

    name: Kind = kind.value
    found = plugins(name)
    if as_json:
        print_json(
            [{"name": p.name, "summary": p.summary, "parameters": p.parameters} for p in found]
        )
        return
    print_table(
        ["name", "what it is", "parameters"],
        (
            [p.name, p.summary, "\n".join(f"{k}: {v}" for k, v in p.parameters.items())]
            for p in found
        ),
    )
    if kind is ListKind.attacks:
        typer.echo("foolbox:NAME is any attack of Foolbox 3, such as foolbox:L2DeepFoolAttack.")


@app.command()
def play(
    model: Annotated[
        list[str],
        typer.Option("--model", help="NAME, NAME:key=value,... or FILE.py; may be repeated."),
    ],
    attack: Annotated[
        list[str],
        typer.Option(
            "--attack", help="NAME, NAME:key=value,..., foolbox:NAME or FILE.py; may be repeated."
        ),
    ],
    dataset: Annotated[str, typer.Option("--dataset", help="NAME of a data set.")] = "mnist5k",
    model_parameters: Annotated[
        list[str] | None, typer.Option("-M", help="key=value for every --model.")
    ] = None,
    attack_parameters: Annotated[
        list[str] | None, typer.Option("-A", help="key=value for every --attack.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which split of the data set.")] = "test",
    images: Annotated[int, typer.Option(min=1, help="How many images, from the first.")] = 50,
    norm: Annotated[
        NormName | None, typer.Option(help="The distance that counts; the attack's by default.")
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option(help="Stay within this radius, instead of minimising.")
    ] = None,
    max_queries: Annotated[
        int | None, typer.Option(min=1, help="Queries that each image may cost.")
    ] = None,
    targeted: Annotated[
        bool, typer.Option("--targeted", help="Want one given wrong label for each image.")
    ] = False,
    quantised: Annotated[
        bool, typer.Option("--quantised", help="Count 8-bit images only, as the tracks do.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Decides every random number.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images attacked together.")] = 64,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the facts; a new one in runs/ by default.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out after a stop.")
    ] = False,
    failures: Annotated[FailuresName, typer.Option(help=FAILURES_HELP)] = FailuresName.infinite,
    checks: Annotated[
        bool, typer.Option("--checks/--no-checks", help="Run the soundness checks.")
    ] = True,
    cache: Annotated[
        bool,
        typer.Option("--cache/--no-cache", help="Take what was played before from the cache."),
    ] = True,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Processor threads of torch; torch chooses.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Play models against attacks here, without a server; facts go to a folder."""
    from .playing import Plan, play_matrix

    if resume and out is None:
        raise UserError("--resume needs the folder to go on with; add --out DIR")
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    plan = Plan(
        models=tuple(model),
        attacks=tuple(attack),
        model_parameters=pairs("-M", model_parameters),
        attack_parameters=pairs("-A", attack_parameters),
        dataset=dataset,
        split=split,
        images=images,
        norm=norm.value if norm else None,
        epsilon=epsilon,
        max_queries=max_queries,
        targeted=targeted,
        quantised=quantised,
        seed=seed,
        batch_size=batch_size,
        cache=cache,
        checks=checks,
        failures=failures.value,
    )
    played = []
    for finished, result in play_matrix(plan, out, resume=resume, watch=_progress):
        played.append((finished, result))
    documents = [
        {**_document(finished, result), "cached": finished.cached} for finished, result in played
    ]
    if as_json:
        print_json(documents[0] if len(documents) == 1 else documents)
        return
    _print_scores(played)
    for finished, _ in played:
        for remark in finished.remarks:
            typer.echo(f"{finished.config.model} x {finished.config.attack}: {remark}")
    for finished, _ in played:
        typer.echo(f"facts: {finished.folder}   (tiltyard report {finished.folder})")


@app.command("score")
def score_folder(
    folder: Annotated[Path, typer.Argument(help="A folder that `tiltyard play` wrote.")],
    failures: Annotated[FailuresName, typer.Option(help=FAILURES_HELP)] = FailuresName.infinite,
    after: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Quote the median after so many queries; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute the scores of a folder of facts again."""
    from .playing import score_run
    from .runs import Run, find_runs

    scored = []
    for path in find_runs(folder):
        loaded = Run.load(path)
        result = score_run(loaded, failures=failures.value, after=after or ())
        scored.append((loaded, result))
    if as_json:
        documents = [_document(loaded, result) for loaded, result in scored]
        print_json(documents[0] if len(documents) == 1 else documents)
        return
    _print_scores(scored)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="The folder of a run.")],
    second: Annotated[Path, typer.Argument(help="The folder of another, on the same images.")],
    failures: Annotated[FailuresName, typer.Option(help=FAILURES_HELP)] = FailuresName.infinite,
    as_json: Json = False,
) -> None:
    """Say which of two runs is better, by how much, and whether that can be told."""
    from .compare import compare_runs, names, subject, verdicts

    one, other = _one_run(first), _one_run(second)
    found = compare_runs(one, other, failures=failures.value)
    called = names(one, other)
    said = verdicts(found, subject(one, other), called)
    if as_json:
        runs = [
            {"folder": str(run.folder), "name": name, "run": run.config.to_json()}
            for run, name in zip((one, other), called, strict=True)
        ]
        print_json({"first": runs[0], "second": runs[1], **found.to_json(), "verdict": said})
        return
    _print_comparison(found, called)
    for line in said:
        typer.echo(line)


@app.command("cache")
def cache_results(
    action: Annotated[CacheAction, typer.Argument(help="info: what is there; clear: remove it.")],
    as_json: Json = False,
) -> None:
    """Show or remove the results that `tiltyard play` keeps."""
    from .cache import Store, results_folder

    store = Store(results_folder())
    entries, size = store.usage()
    if action is CacheAction.clear:
        store.clear()
    if as_json:
        document = {"folder": str(store.folder), "entries": entries, "bytes": size}
        print_json({**document, "cleared": action is CacheAction.clear})
        return
    done = "removed from" if action is CacheAction.clear else "in"
    typer.echo(f"{entries} results, {size / 2**20:.1f} MiB {done} {store.folder}")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A folder that `tiltyard play` wrote.")],
    html: Annotated[
        Path | None, typer.Option("--html", help="The page to write; DIR/report.html by default.")
    ] = None,
) -> None:
    """Write a page that opens offline: table, curves, gallery."""
    from .reports import write_html
    from .runs import find_runs

    typer.echo(str(write_html(find_runs(folder), html or folder / "report.html")))


@app.command()
def distort(
    model: Annotated[
        list[str],
        typer.Option("--model", help="NAME, NAME:key=value,... or FILE.py; may be repeated."),
    ],
    dataset: Annotated[str, typer.Option("--dataset", help="NAME of a data set.")] = "mnist5k",
    distortion: Annotated[
        list[str] | None,
        typer.Option("--distortion", help="NAME, FILE.py or all (the default); may be repeated."),
    ] = None,
    levels: Annotated[
        str | None,
        typer.Option(help="Level,level,... as labelled, or numbers; the paper's by default."),
    ] = None,
    model_parameters: Annotated[
        list[str] | None, typer.Option("-M", help="key=value for every --model.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which split of the data set.")] = "test",
    images: Annotated[
        int | None, typer.Option(min=1, help="How many images, from the first; all by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides every random number.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 64,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the facts and a page; none by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask models about distorted images, as in arXiv 1808.08750: accuracy by level."""
    from .distorting import Plan, distort_models

    plan = Plan(
        models=tuple(model),
        model_parameters=pairs("-M", model_parameters),
        dataset=dataset,
        split=split,
        images=images,
        distortions=tuple(distortion or ["all"]),
        levels=tuple(levels.split(",")) if levels else None,
        seed=seed,
        batch_size=batch_size,
    )
    found = list(distort_models(plan, out, watch=_steps))
    if as_json:
        documents = [one.to_json() for one in found]
        print_json(documents[0] if len(documents) == 1 else documents)
        return
    _print_distorted(found)
    if out is not None:
        from .reports import distortions

        typer.echo(str(distortions.write_html(found, out / "report.html")))


@app.command()
def invariance(
    model: Annotated[
        list[str],
        typer.Option("--model", help="NAME, NAME:key=value,... or FILE.py; may be repeated."),
    ],
    dataset: Annotated[str, typer.Option("--dataset", help="NAME of a data set.")] = "mnist5k",
    oracle: Annotated[
        str, typer.Option(help="An independent model that stands in for people; as --model.")
    ] = "small_cnn",
    model_parameters: Annotated[
        list[str] | None, typer.Option("-M", help="key=value for every --model.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which split of the data set.")] = "test",
    images: Annotated[
        int, typer.Option(min=2, help="How many, from the first; each is source and donor once.")
    ] = 500,
    steps: Annotated[
        int, typer.Option(min=1, help="Of gradient descent, for models that can't be inverted.")
    ] = 500,
    seed: Annotated[int, typer.Option(help="Decides which images are paired.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 100,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the facts and a page; none by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make metamers, as in arXiv 1811.00401: other images that a model can't tell apart."""
    from .inverting import Plan, measure_models

    plan = Plan(
        models=tuple(model),
        model_parameters=pairs("-M", model_parameters),
        oracle=oracle,
        dataset=dataset,
        split=split,
        images=images,
        steps=steps,
        seed=seed,
        batch_size=batch_size,
    )
    found = list(measure_models(plan, out, watch=_steps))
    if as_json:
        documents = [one.to_json() for one in found]
        print_json(documents[0] if len(documents) == 1 else documents)
        return
    _print_invariance(found)
    if out is not None:
        from .reports import invariance as page

        typer.echo(str(page.write_html(found, out / "report.html")))


class TaskNormName(StrEnum):
    """Norms in which tasks are attacked."""

    linf = "linf"
    l2 = "l2"


class SurfaceName(StrEnum):
    """What an adversary may change."""

    scene = "scene"
    reference = "reference"
    both = "both"


@app.command()
def task(
    model: Annotated[str, typer.Option("--model", help="NAME, NAME:key=value,... or FILE.py.")],
    dataset: Annotated[str, typer.Option("--dataset", help="NAME of a set of samples.")],
    model_parameters: Annotated[
        list[str] | None, typer.Option("-M", help="key=value for the model.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which split of the data set.")] = "test",
    images: Annotated[
        int | None, typer.Option(min=2, help="How many samples, from the first; all by default.")
    ] = None,
    norm: Annotated[
        list[TaskNormName] | None, typer.Option(help="Of the attack; both by default.")
    ] = None,
    surface: Annotated[
        list[SurfaceName] | None, typer.Option(help="What is attacked; all three by default.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of each restart of the attack.")] = 10,
    restarts: Annotated[int, typer.Option(min=1, help="Of the attack.")] = 2,
    minimal: Annotated[
        bool, typer.Option("--minimal/--no-minimal", help="Search for the smallest radius too.")
    ] = True,
    distortion: Annotated[
        list[str] | None,
        typer.Option("--distortion", help="NAME, FILE.py or all; none by default."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides every random number.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the facts and a page; none by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Attack and distort a model that is no classifier, in its own measure, beside noise."""
    from .reports import tasks as page
    from .tasks.attacking import SURFACES, Ascent
    from .tasks.playing import Plan, play_task

    if out is not None and out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty; name a new folder by --out, or remove it")
    found = play_task(
        Plan(
            model=model,
            model_parameters=pairs("-M", model_parameters),
            dataset=dataset,
            split=split,
            samples=images,
            norms=tuple(one.value for one in norm) if norm else ("linf", "l2"),
            surfaces=tuple(one.value for one in surface) if surface else SURFACES,
            minimal=minimal,
            distortions=tuple(distortion or ()),
            ascent=Ascent(steps=steps, restarts=restarts),
            seed=seed,
        ),
        watch=_steps,
    )
    if out is not None:
        found.write(out)
        written = page.write_html(found, out / "report.html")
    if as_json:
        print_json(found.to_json())
        return
    print_table(
        ["condition", found.measure, "retention", "broken"],
        [[page.said(row), *page.cells(row)] for row in found.rows()],
        title=f"{found.model}: {found.task} ({found.dataset}, {found.split})",
    )
    for name, why in found.skipped.items():
        typer.echo(f"left out: {name}: {why}")
    if out is not None:
        typer.echo(str(written))


@app.command()
def reproduce(
    paper: Annotated[str, typer.Argument(help="arXiv id, such as 1805.09190.")],
    full: Annotated[
        bool, typer.Option("--full", help="The paper's own size instead of a laptop's: days.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for facts and page; reproductions/PAPER-SCALE by default."),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=0, help="At work side by side; 0: one for each core.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Run a paper's experiments and hold its claims against them; writes a page.

    The same command goes on where an earlier one was stopped. Exit code 1: a claim does not hold.
    """
    import os

    from .plugins import load_paper
    from .reports import reproduction

    found = load_paper(paper)
    scale: Literal["laptop", "full"] = "full" if full else "laptop"
    folder = out or Path("reproductions") / f"{found.arxiv}-{scale}"
    done = found.reproduce(
        folder,
        scale=scale,
        processes=processes or os.cpu_count() or 1,
        report=lambda line: typer.echo(line, err=True),
    )
    page = reproduction.write_html(done, folder / "report.html")
    if as_json:
        print_json(done.to_json())
    else:
        print_table(
            ["claim", "holds", "published", "measured"],
            [
                [
                    claim.claim,
                    "yes" if claim.holds else "no",
                    claim.published or "",
                    reproduction.measured(claim),
                ]
                for claim in done.claims
            ],
            title=f"{done.title} (arXiv {done.paper}, {done.scale} scale)",
        )
        typer.echo(str(page))
    if not all(claim.holds for claim in done.claims):
        raise typer.Exit(1)


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="A model that can be trained.")],
    dataset: Annotated[str, typer.Option("--dataset", help="NAME of a data set.")],
    parameters: Annotated[
        list[str] | None, typer.Option("-M", help="key=value of the model or its training.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The weights file; the card goes beside it.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides every random number.")] = 0,
) -> None:
    """Train a model of the zoo: writes weights (safetensors) and a card."""
    from . import training

    path = training.train(
        name,
        dataset,
        out=out,
        params=dict(pairs("-M", parameters)),
        seed=seed,
        report=lambda line: typer.echo(line, err=True),
    )
    typer.echo(str(path))


@app.command()
def convert(
    name: Annotated[str, typer.Argument(help="A model with published weights, such as abs.")],
    folder: Annotated[Path, typer.Argument(help="Where the authors' files lie.")],
    out: Annotated[Path, typer.Option(help="The weights file; the card goes beside it.")],
) -> None:
    """Turn weights that a model's authors publish into ours: safetensors and a card."""
    from . import conversion

    path = conversion.convert(name, folder, out)
    typer.echo(str(path))
    typer.echo(f"use it by: --model {name}:weights={path}", err=True)


def pairs(option: str, texts: list[str] | None) -> dict[str, str]:
    """Read key=value options.

    Raises:
        UserError: one without "=".
    """
    read = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UserError(f"can't read {option} {text!r}; wanted key=value")
        read[key.strip().replace("-", "_")] = value.strip()
    return read


def _one_run(folder: Path) -> Run:
    from .runs import Run, find_runs

    found = find_runs(folder)
    if len(found) > 1:
        raise UserError(
            f"{folder} holds {len(found)} runs, one is wanted; name its folder, such as {found[0]}"
        )
    return Run.load(found[0])


def _progress(title: str, total: int, outcomes: Iterable[Outcome]) -> Iterable[Outcome]:
    """Show a bar on a terminal's stderr while outcomes pass through."""
    if not sys.stderr.isatty():
        yield from outcomes
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(outcomes, title, total=total, console=Console(stderr=True), transient=True)


def _steps(line: str, done: int, total: int) -> None:
    """Show on a terminal's stderr how far it is, on one line."""
    if sys.stderr.isatty():
        text = f"{done}/{total} {line}" if done < total else ""
        sys.stderr.write(f"\r\x1b[K{text[:100]}")
        sys.stderr.flush()


def _document(finished: Run, result: Score) -> dict[str, Any]:
    return {
        "run": finished.config.to_json(),
        "score": result.to_json(),
        "outcomes": str(finished.folder / "outcomes.jsonl"),
    }


def _print_scores(scored: list[tuple[Run, Score]]) -> None:
    rows = []
    queries = sorted({q for _, result in scored for q in result.median_after})
    for finished, result in scored:
        config = finished.config
        low, high = result.interval
        robust = ", ".join(
            f"{accuracy:.1%} at {radius:g} "
            f"[{result.robust_intervals[radius][0]:.1%}, {result.robust_intervals[radius][1]:.1%}]"
            for radius, accuracy in result.robust_accuracy.items()
        )
        passed = sum(finding.ok for finding in result.checks)
        rows.append(
            [
                config.model,
                config.attack,
                f"{config.dataset} ({result.n})",
                f"{result.clean_accuracy:.1%}",
                robust,
                f"{config.norm} {result.median_distance:.4g} [{low:.4g}, {high:.4g}]",
                *(f"{result.median_after[q]:.4g}" for q in queries),
                f"{result.mean_queries:.1f}",
                f"{passed} of {len(result.checks)}" if result.checks else "not run",
            ]
        )
    print_table(
        ["model", "attack", "data", "clean", "robust accuracy", "median distance"]
        + [f"after {q}" for q in queries]
        + ["queries", "checks"],
        rows,
    )
    for policy in dict.fromkeys(result.failures for _, result in scored):
        _print_failures(policy)
    for finished, result in scored:
        for warning in result.warnings:
            typer.echo(f"note: {finished.config.model} x {finished.config.attack}: {warning}")


def _print_distorted(found: list[Distorted]) -> None:
    for scores in zip(*(one.scores() for one in found), strict=True):
        first = scores[0]
        print_table(
            [first.unit or "level", *(one.model for one in found)],
            [
                [
                    level.level,
                    *(
                        f"{s.levels[row].accuracy:.1%} [{s.levels[row].interval[0]:.1%}, "
                        f"{s.levels[row].interval[1]:.1%}], {s.levels[row].entropy:.2f} bits"
                        for s in scores
                    ),
                ]
                for row, level in enumerate(first.levels)
            ]
            + [["mean", *(f"{s.mean_accuracy:.1%}" for s in scores)]],
            title=f"{first.title} ({found[0].dataset}, {len(found[0].labels)} images)",
        )
    print_table(
        ["model", "mean accuracy over distortions"],
        [[one.model, f"{one.mean_accuracy:.1%}"] for one in found],
    )
    typer.echo(f"chance: {1 / found[0].classes:.1%}; bits: entropy of the answers")
    for name, why in found[0].skipped.items():
        typer.echo(f"left out: {name}: {why}")


def _print_invariance(found: list[Invariance]) -> None:
    from .invariance import TOLERANCE
    from .reports.invariance import share

    first = found[0]
    rows = []
    for one in found:
        score = one.score()
        rows.append(
            [
                one.model,
                one.method,
                share(score.metamers),
                share(score.exact),
                share(score.donor_named),
                share(score.clipped_metamers),
                f"{score.logit_error:.2g}",
                f"{score.range_violation:.2g}",
                f"{score.distance_donor:.3g}",
                f"{score.accuracy:.1%}",
            ]
        )
    print_table(
        [
            "model",
            "method",
            "metamers",
            "exact logits",
            "oracle: donor",
            "metamers, clipped",
            "logit error",
            "beyond [0,1]",
            "L2 to donor",
            "accuracy",
        ],
        rows,
        title=f"{len(first.source_ids)} pairs of {first.dataset} ({first.split})",
    )
    typer.echo(
        f"a metamer has its source's logits to {TOLERANCE:g}, and the oracle ({first.oracle}, "
        f"{first.score().oracle_accuracy:.1%} right) gives it its donor's class"
    )


def _print_failures(policy: Failures) -> None:
    typer.echo(f"failures: {policy} ({FAILURES_MEANING[policy]}); a clean error counts as 0")


def _print_comparison(found: Comparison, called: tuple[str, str]) -> None:
    def figure(name: str, measured: Difference, votes: Discordant, test: str) -> list[str]:
        low, high = measured.interval
        return [
            name,
            f"{measured.first:.4g}",
            f"{measured.second:.4g}",
            f"{measured.difference:.4g} [{low:.4g}, {high:.4g}]",
            f"{test} {votes.first} : {votes.second}, p = {votes.p:.2g}",
        ]

    rows = []
    if found.median is not None:
        name = f"median {found.norm} distance"
        rows.append(figure(name, found.median, found.farther, "farther in"))
    name = f"robust accuracy at {found.norm} {found.radius:g}"
    rows.append(figure(name, found.robust, found.held, "robust only in"))
    print_table([f"{found.n} images", *called, "second less first", "images, exact test"], rows)
    _print_failures(found.failures)


def _stop(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)
