"""`nightshift submit train | finetune | infer | evaluate | run | batch`, and `submit -f job.json`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nightshift.cli import completion, payload, suggestions
from nightshift.cli.options import (
    AsJson,
    FamilyName,
    Framework,
    Preset,
    client,
    parameters_of,
    set_parameters,
    with_options,
)
from nightshift.cli.registry import group
from nightshift.cli.render import output
from nightshift.errors import InvalidRequest
from nightshift.names import BATCH_INFER, EVALUATE, FINETUNE, RUN, TRAIN

if TYPE_CHECKING:
    from nightshift.client.client import Job

app = group("submit", " Prints the job's id.")

ModelRef = Annotated[
    str,
    typer.Argument(
        metavar="MODEL_REF", help="A model: name, name@3, name@alias or job:<id>.", autocompletion=completion.model_refs
    ),
]
Epochs = Annotated[int | None, typer.Option(help="Number of passes over the training data.")]
BatchSize = Annotated[int | None, typer.Option(help="Samples per step.")]
LearningRate = Annotated[float | None, typer.Option("--learning-rate", "--lr", help="Initial learning rate.")]
Seed = Annotated[int | None, typer.Option(help="Seed of all random numbers of the run.")]
RegisterAs = Annotated[str | None, typer.Option(help="Register the result as a new version of this model.")]
Follow = Annotated[
    bool, typer.Option("--follow", help="Follow the job until it ends. Exit code: 0 succeeded, 1 failed, 2 cancelled.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Set any field of the job, e.g. training.batch_size=64. Repeatable."
    ),
]
IdempotencyKey = Annotated[str | None, typer.Option(help="The same again with this key submits nothing new.")]
#: Common options -> their paths in the request body.
PLACES = {
    "dataset": "dataset",
    "name": "name",
    "priority": "priority",
    "device": "resources.device",
    "preempt": "preempt",
    "run_at": "run_at",
    "max_retries": "max_retries",
    "timeout": "timeout_seconds",
}


def _common(
    dataset: Annotated[
        str | None,
        typer.Option(help="Name of the data set, e.g. digits or mnist@2.", autocompletion=completion.datasets),
    ] = None,
    name: Annotated[str | None, typer.Option(help="A display name.")] = None,
    priority: Annotated[int | None, typer.Option(help="0 to 9; higher runs first.")] = None,
    preempt: Annotated[
        bool | None, typer.Option("--preempt", help="Urgent: preempt a running job of lower priority.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or gpu.", autocompletion=completion.devices)] = None,
    run_at: Annotated[
        str | None, typer.Option(help="Do not start before this time, e.g. 2030-01-01T02:00:00Z.")
    ] = None,
    max_retries: Annotated[int | None, typer.Option(help="Number of retries after retryable errors.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Time limit in seconds, after which the job fails.")] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Set a tag. Repeatable.")] = None,
    after: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Wait for this job to succeed. Repeatable.", autocompletion=completion.job_ids),
    ] = None,
    set_: Sets = None,
    idempotency_key: IdempotencyKey = None,
    follow: Follow = False,
    as_json: AsJson = False,
) -> None:
    """Declare the options of every kind of job; `_with_common` adds them to a command."""


def _with_common(build: Callable[..., dict[str, Any]]) -> Callable[..., None]:
    """Return a command with the parameters of `build`, which makes the request body, and the common ones."""
    own = parameters_of(build)

    @functools.wraps(build)
    def command(ctx: typer.Context, **given: Any) -> None:
        body = build(**{one.name: given.pop(one.name) for one in own})
        _fill(ctx, body, given)
        _send(ctx, body, given["idempotency_key"], follow=given["follow"], as_json=given["as_json"])

    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    set_parameters(command, [context, *own, *parameters_of(_common)])
    del command.__wrapped__
    return command


def _fill(ctx: typer.Context, body: dict[str, Any], given: dict[str, Any]) -> None:
    payload.put_options(body, {path: given[option] for option, path in PLACES.items()})
    payload.put_options(body, {"tags": payload.tags(given["tag"] or [])})
    if given["after"]:
        api = client(ctx)
        body["after"] = [api.job(job_id).id for job_id in given["after"]]
    payload.assign(body, given["set_"] or [])


def _send(ctx: typer.Context, body: dict[str, Any], key: str | None, *, follow: bool, as_json: bool) -> None:
    print_submitted(ctx, client(ctx).submit(body, key), follow=follow, as_json=as_json)


def print_submitted(ctx: typer.Context, job: Job, *, follow: bool, as_json: bool) -> None:
    """Print the id of a submitted job, or follow it."""
    suggestions.no_worker(client(ctx), [job])
    suggestions.needs_download(client(ctx), job)
    if follow:
        from nightshift.cli.commands.jobs import follow_jobs

        if not as_json:
            typer.echo(job.id)
        follow_jobs([job], as_json=as_json)
    elif as_json:
        output.print_json(job.data)
    else:
        typer.echo(job.id)


@app.callback()
def from_file(
    ctx: typer.Context,
    file: Annotated[
        str | None, typer.Option("-f", "--file", metavar="FILE", help="A job as JSON; - reads stdin.")
    ] = None,
    set_: Sets = None,
    idempotency_key: IdempotencyKey = None,
    follow: Follow = False,
    as_json: AsJson = False,
) -> None:
    """Submit a job from a file."""
    if ctx.invoked_subcommand:
        if file or set_ or idempotency_key or follow or as_json:
            raise InvalidRequest(f"Write the options after `{ctx.invoked_subcommand}`; -f is used without a kind.")
        return
    if file is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(2)
    body = payload.read(file)
    payload.assign(body, set_ or [])
    _send(ctx, body, idempotency_key, follow=follow, as_json=as_json)


def training_settings(
    epochs: Epochs = None, batch_size: BatchSize = None, learning_rate: LearningRate = None, seed: Seed = None
) -> dict[str, Any]:
    """Return the settings of the training that these options give, by path."""
    given = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    return {f"training.{name}": value for name, value in given.items()}


@app.command(TRAIN)
@_with_common
@with_options(training_settings)
def train(
    family: FamilyName,
    preset: Preset = None,
    framework: Framework = None,
    *,
    register_as: RegisterAs = None,
    **training: Any,
) -> dict[str, Any]:
    """Train a model from scratch, e.g. `submit train cnn --dataset digits --epochs 5 --follow`."""
    body: dict[str, Any] = {"kind": TRAIN, **payload.model(family, preset, framework)}
    payload.put_options(body, {"register_as": register_as})
    payload.put_options(body, training_settings(**training))
    return body


@app.command(FINETUNE)
@_with_common
@with_options(training_settings)
def finetune(
    model_ref: ModelRef,
    framework: Framework = None,
    freeze: Annotated[str | None, typer.Option(help="Layers to freeze: none or features.")] = None,
    *,
    register_as: RegisterAs = None,
    **training: Any,
) -> dict[str, Any]:
    """Fine-tune a model, e.g. `submit finetune digits@champion --dataset mnist --epochs 1`."""
    body: dict[str, Any] = {"kind": FINETUNE, "model_ref": model_ref}
    payload.put_options(body, {"framework": framework, "freeze": freeze, "register_as": register_as})
    payload.put_options(body, training_settings(**training))
    return body


@app.command("infer")
@_with_common
def infer(
    model_ref: ModelRef,
    framework: Framework = None,
    batch_size: Annotated[
        str | None,
        typer.Option(metavar="N|auto", help="Rows per batch; auto: 256 on a CPU, as many as fit on a GPU."),
    ] = None,
    engine: Annotated[str | None, typer.Option(help="auto, framework or onnxruntime: what computes on a CPU.")] = None,
    shards: Annotated[
        str | None,
        typer.Option(metavar="N|auto", help="Compute the rows in N parts, each by any worker; auto: one per worker."),
    ] = None,
    task: Annotated[str | None, typer.Option(help="predict, score or generate.")] = None,
    output: Annotated[str | None, typer.Option(help="parquet or jsonl.")] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="With generate: a text to continue. Repeatable.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Largest number of tokens to generate.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Sampling temperature: below 1 less random, above 1 more random.")
    ] = None,
    count: Annotated[int | None, typer.Option(help="Number of samples to generate.")] = None,
    seed: Seed = None,
) -> dict[str, Any]:
    """Run a model on a data set, e.g. `submit infer digits --dataset digits --output jsonl`."""
    body: dict[str, Any] = {"kind": BATCH_INFER, "model_ref": model_ref}
    given = {
        "framework": framework, "engine": engine, "batch_size": _number_or_word(batch_size), "task": task,
        "output": output, "shards": _number_or_word(shards), "prompts": prompt,
        "max_new_tokens": max_new_tokens, "temperature": temperature, "count": count, "seed": seed,
    }  # fmt: skip
    payload.put_options(body, {f"inference.{name}": value for name, value in given.items()})
    return body


def _number_or_word(text: str | None) -> int | str | None:
    return int(text) if text and text.isdecimal() else text


@app.command(EVALUATE)
@_with_common
def evaluate(model_ref: ModelRef, framework: Framework = None) -> dict[str, Any]:
    """Evaluate a model on the test part of a data set."""
    body: dict[str, Any] = {"kind": EVALUATE, "model_ref": model_ref}
    payload.put_options(body, {"framework": framework})
    return body


@app.command(RUN)
@_with_common
def run(
    program: Annotated[
        str,
        typer.Argument(
            metavar="PROGRAM",
            help="An installed program; `nightshift programs` lists them.",
            autocompletion=completion.programs,
        ),
    ],
    param: Annotated[
        list[str] | None,
        typer.Option("-p", "--param", metavar="NAME=VALUE", help="Set a parameter of the program. Repeatable."),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Give the program this secret of the workers. Repeatable."),
    ] = None,
    seed: Seed = None,
    register_as: RegisterAs = None,
) -> dict[str, Any]:
    """Run an installed program, e.g. `submit run gbm --dataset sales -p rounds=200 --follow`."""
    body: dict[str, Any] = {"kind": RUN, "program": program}
    payload.put_options(body, {"seed": seed, "secrets": secret, "register_as": register_as})
    payload.assign(body, [f"params.{one}" for one in param or []])
    return body


@app.command("batch")
def batch(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A JSON list of jobs, or JSON Lines; - reads stdin.")],
    each: Annotated[
        bool, typer.Option("--each", help="Submit the jobs that are accepted even if others are refused.")
    ] = False,
    idempotency_key: IdempotencyKey = None,
    as_json: AsJson = False,
) -> None:
    """Submit up to 1,000 jobs in one transaction: all or none, or with --each every one by itself."""
    items = client(ctx).submit_batch(payload.read_batch(file), idempotency_key, each=each)
    refused = [(place, item["error"]) for place, item in enumerate(items) if item["error"]]
    if as_json:
        output.print_json(items)
    else:
        for item in items:
            if item["id"]:
                typer.echo(item["id"])
        for place, error in refused:
            typer.echo(f"job {place} (counted from 0) was refused: {error['detail']}", err=True)
    if refused:
        raise typer.Exit(1)
