"""Run one stage: execute its notebook with the values of params.yaml.

    python -m medscope.pipeline.stage sft                                one stage, notebooks/03_sft.ipynb
    python -m medscope.pipeline.stage ga_grpo steps=50 variant=try       one stage, two changes
    python -m medscope.pipeline.stage ga_grpo --with baselines.plain_grpo variant=baselines/plain_grpo
    python -m medscope.pipeline.stage --smoke all                        the whole chain at smoke scale, in smoke/
    torchrun --nnodes 2 .. -m medscope.pipeline.stage ga_grpo            on several machines (docs/scaling.md)

Only DVC (`dvc repro`) and `--in-place` write the pipeline's own files, every other run below runs/. The launcher keeps
the executed notebook and a page of it in outputs/<run>/ and opens one MLflow run. It shows the notebook's own progress.
Of a failure it says the cause in its last lines; the trace is in the executed notebook.

Under torchrun the first process does all that, and `processes` is the number that torchrun has started. The others do
what the notebook calls by `on_processes`, on a folder that all machines share.
"""

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from medscope.pipeline.layout import IN_PLACE, LAUNCHED, Layout, runs_in_place
from medscope.pipeline.parameters import (
    NOTEBOOKS,
    ROOT,
    Parameters,
    StageError,
    notebook_of,
    read_parameters,
    stage_parameters,
)
from medscope.pipeline.presets import of_stage
from medscope.ranks import is_first_process, process_count


class StageFailed(RuntimeError):
    """A notebook raised, or its results could not be kept. The message ends with the cause."""


class Killed(SystemExit):
    """A signal asked the launcher to end."""


def run_name(parameters: Parameters) -> str:
    """The run's name in outputs/, metrics/ and MLflow: variant of a training, system of an evaluation, study, stage."""
    if parameters.stage == "evaluate":
        return f"evaluate/{parameters['system']}"
    if parameters.stage == "studies":
        return f"studies/{parameters['study']}/table"  # beside the outputs of its trainings
    return parameters.get("variant", parameters.stage)


def run(parameters: Parameters) -> Path:
    """Execute a stage from the repository root inside an MLflow run; returns the executed notebook.

    A stage that fails leaves its notebook, with the error in it, and a failed MLflow run. Raises StageFailed.
    """
    from medscope.pipeline import tracking
    from medscope.reporting import page

    os.chdir(ROOT)
    layout, name = Layout(parameters["folder"]), run_name(parameters)
    executed = layout.output(name, notebook_of(parameters.stage).name)
    try:
        os.environ["MLFLOW_RUN_ID"] = tracking.start(name, parameters, layout)
    except Exception as error:  # a locked or full store
        raise StageFailed(f"the MLflow run could not be opened: {type(error).__name__}: {error}") from error
    os.environ[LAUNCHED] = "1"
    status, problems, began = "KILLED", [], time.time()
    try:
        cause = execute(parameters, executed)
        status = "FAILED" if cause else "FINISHED"
    finally:
        del os.environ["MLFLOW_RUN_ID"]
        problems += attempt("the page", lambda: page.export(executed, status == "FINISHED"))
        problems += attempt("the MLflow run", lambda: tracking.end(status, name, layout, executed.parent, began))
    if cause:
        raise StageFailed("\n".join([*problems, f"{executed} has the whole trace.", cause]))
    if problems:
        raise StageFailed("\n".join(problems))
    layout.forget_scratch(name)
    return executed


def execute(parameters: Parameters, executed: Path) -> str | None:
    """Run the notebook in a kernel of its own; returns what went wrong, as `ErrorName: message`."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    os.environ.setdefault("TQDM_MININTERVAL", "5")  # seconds between updates of a progress bar in the log
    try:
        papermill.execute_notebook(
            str(notebook_of(parameters.stage)),
            str(executed),
            parameters=dict(parameters),
            kernel_name="python3",
            cwd=str(ROOT),
            progress_bar=False,
            log_output=True,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
        )
    except PapermillExecutionError as error:
        return f"{error.ename}: {error.evalue}"
    except Exception as error:  # the notebook could not be written or its kernel died: as much the stage's failure
        return f"{type(error).__name__}: {error}"
    return None


def attempt(what: str, action: Callable[[], Any]) -> list[str]:
    """Do it; a failure is returned as a sentence, so that it never hides the failure of the notebook before it."""
    try:
        action()
    except Exception as error:
        return [f"{what} could not be written: {type(error).__name__}: {error}"]
    return []


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the launcher like Ctrl-C: the kernel is stopped, the MLflow run is KILLED."""

    def end(number: int, _: Any) -> None:
        raise Killed(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def smoke_chain() -> list[Parameters]:
    """Every stage in order with the notebooks' own values; of the ablations two variants."""
    chain = [smoke(stage) for stage in ("synthesize_data", "warm_up", "sft", "ga_grpo")]
    variants = {name: f"ablation/{name}_0" for name in smoke("ablations")["variants"]}
    chain += [smoke("ga_grpo", f"ablation_overrides.{name}", variant=run) for name, run in variants.items()]
    own, nothing = smoke("evaluate"), {"audit_tasks": 0, "free_text_tasks": 0}
    chain.append(smoke("evaluate", "blind", **nothing))
    for system, changes in read_parameters()["systems"].items():
        counts = {name: own[name] if name in changes else 0 for name in nothing}
        chain.append(smoke("evaluate", f"systems.{system}", **counts))
    chain += [smoke("evaluate", system=run, checkpoint=run, **nothing) for run in variants.values()]
    return [*chain, smoke("ablations"), smoke("report")]


def smoke(stage: str, *overlays: str, **changes: Any) -> Parameters:
    """The notebook's own values with these changes."""
    return stage_parameters(stage, [f"{name}={value}" for name, value in changes.items()], overlays, smoke=True)


def parse(words: Sequence[str] | None = None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """The command line; `name=value` may stand before or after the options."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m medscope.pipeline.stage", description=__doc__, formatter_class=raw)
    parser.add_argument("stage", choices=[*NOTEBOOKS, "all"])
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="parameters instead of those of params.yaml")
    parser.add_argument(
        "--with", dest="overlays", metavar="section.name", action="append", default=[],
        help="lay these values of params.yaml over the stage's, e.g. ablation_overrides.no_modulation (repeatable)",
    )  # fmt: skip
    parser.add_argument(
        "--preset", dest="presets", metavar="name", action="append", default=[],
        help="lay a file of presets/ over params.yaml and --with, e.g. qwen2.5-vl-7b (repeatable)",
    )  # fmt: skip
    parser.add_argument("--smoke", action="store_true", help="the notebook's own small values, in smoke/")
    parser.add_argument("--in-place", action="store_true", help="write the pipeline's own files, not below runs/")
    return parser, parser.parse_intermixed_args(words)


def planned(arguments: argparse.Namespace) -> list[Parameters]:
    """The runs that the command line asks for; StageError for what cannot be."""
    if arguments.stage != "all":
        started = [f"processes={process_count()}"] if process_count() > 1 else []
        overrides = [*of_stage(arguments.presets, arguments.stage), *arguments.overrides, *started]
        return [stage_parameters(arguments.stage, overrides, arguments.overlays, arguments.smoke)]
    if process_count() > 1:
        raise StageError("`all` runs in one process; under torchrun name one stage")
    if not arguments.smoke:
        raise StageError("`all` is for --smoke; the real chain is `dvc repro`")
    if arguments.overrides or arguments.overlays or arguments.presets:
        raise StageError("`--smoke all` takes no changes; name a stage")
    return smoke_chain()


def main() -> None:
    """Command line: see `python -m medscope.pipeline.stage --help`."""
    parser, arguments = parse()
    try:
        chain = planned(arguments)
    except StageError as error:
        parser.error(str(error))
    if arguments.in_place:
        os.environ[IN_PLACE] = "1"
    if process_count() > 1:
        from medscope.training import processes  # here, so that the launcher starts without torch

        if not is_first_process():
            return processes.follow()
        store = processes.lead()
    for parameters in chain:
        print(f"== {run_name(parameters)}", flush=True)
        if parameters["folder"] == "." and not runs_in_place():
            print(
                "Writes below runs/; what runs/ lacks is read from the pipeline's files (see --in-place).", flush=True
            )
        try:
            with ending_on_signals():
                print(run(parameters), flush=True)
        except StageFailed as error:
            sys.exit(f"stage {run_name(parameters)} failed\n{error}")
    if process_count() > 1:
        processes.dismiss_followers(store)


if __name__ == "__main__":
    main()
