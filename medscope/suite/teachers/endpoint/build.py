"""ClinVideoSuite made by a model behind an endpoint, as the Parquet shards that `suite.Suite` reads.

A run that is stopped goes on where it was: what the steps have made lies in `work` under the key of its content.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from tqdm import tqdm

from medscope.environment import FrameStore, ToolBudget
from medscope.files import read_jsonl, write_json, write_jsonl
from medscope.records import Caption, Recording, Split, Task, Trajectory, WarmUpExample
from medscope.remote import RemoteModel
from medscope.sources.manifest import VideoFile
from medscope.sources.source import Source
from medscope.suite.bulk import Rejected, Step, StepStopped, run_step
from medscope.suite.bulk.parquet import SUITE, write_parquet
from medscope.suite.bulk.shards import read_lines
from medscope.suite.splits import SHARES, assign_splits
from medscope.suite.suite import clear_suite
from medscope.suite.teachers.endpoint.captions import CaptionedFilm, CaptionStep, SummaryStep
from medscope.suite.teachers.endpoint.checks import Checked, CheckStep, drop_duplicates
from medscope.suite.teachers.endpoint.funnel import Funnel
from medscope.suite.teachers.endpoint.questions import Draft, QuestionsReply, QuestionStep, drafts, neighbourhoods
from medscope.suite.teachers.endpoint.scenes import Film, Scenes, SceneStep, Segment
from medscope.suite.teachers.endpoint.structured import StructuredModel
from medscope.suite.teachers.endpoint.trajectories import TeachingTask, TrajectoryStep
from medscope.suite.teachers.endpoint.verification import VerificationStep, Verified
from medscope.suite.teachers.endpoint.warm_up import (
    caption_examples,
    captioned_examples,
    look_examples,
    skim_examples,
)

LOOK = ToolBudget(skim_frames=128, crop_frames=64)  # what the teacher sees; the students' budget may be smaller
WORK = ".cache/teacher"  # what was paid for: no output of a stage, which a new run would delete
FIRST_OUTAGE = 2**31  # failures in a row that `RemoteModel` lets pass: the runner stops the run, after fewer


def teacher_model(allow_remote: bool = False, **settings: Any) -> RemoteModel:
    """The endpoint of MEDSCOPE_TEACHER_URL, MEDSCOPE_TEACHER_MODEL and MEDSCOPE_TEACHER_KEY.

    Nothing is sent to another machine without `allow_remote`. `settings` are those of `RemoteModel`.
    """
    return RemoteModel("MEDSCOPE_TEACHER", allow_remote=allow_remote, **{"trip": FIRST_OUTAGE, **settings})


@dataclass(frozen=True)
class TeacherSettings:
    """What a user may change. `shortest` and `longest` are seconds of a segment.

    `look` says how many frames of which size the teacher gets of a segment, of evidence and of the whole video.
    `neighbours`: captions that one request asks about, with at most `questions` questions. `asks`: tries to answer
    without the video. `request`: fields of every request (None takes one out). `concurrency`: requests at once.
    `timeout` is that of a request (s), `retries` how often it is sent again. Nothing is sent to another machine without
    `allow_remote`. `work` keeps what the steps have made.
    """

    allow_remote: bool = False
    work: str = WORK
    look: ToolBudget = LOOK
    shortest: float = 4.0
    longest: float = 60.0
    neighbours: int = 3
    questions: int = 4
    asks: int = 3
    max_tokens: int = 2048
    request: Mapping[str, Any] = field(default_factory=dict)
    concurrency: int = 8
    stop_after: int = 5
    timeout: float = 120.0
    retries: int = 6


def teacher_settings(given: Mapping[str, Any]) -> TeacherSettings:
    """The settings among parameters; `look` may name some fields of a `ToolBudget`. Raises ValueError for bad ones."""
    known = [entry.name for entry in fields(TeacherSettings)]
    if unknown := sorted(set(given) - set(known)):
        raise ValueError(f"the teacher has no setting {', '.join(unknown)}; it has {', '.join(known)}")
    look = {entry.name: getattr(LOOK, entry.name) for entry in fields(LOOK)} | dict(given.get("look") or {})
    try:
        return TypeAdapter(TeacherSettings).validate_python({**given, "look": look})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ValueError(f"settings of the teacher: {wrong}") from None


def build_suite_with_teacher(
    folder: str | Path,
    source: Source,
    remote: RemoteModel,
    store: FrameStore,
    budget: ToolBudget,
    *,
    settings: TeacherSettings | None = None,
    manifest: str | Path | None = None,
    shares: Mapping[Split, float] = SHARES,
    seed: int = 0,
) -> Funnel:
    """Caption, ask, check, verify and teach; write the suite, `rejected.jsonl` and `funnel.json` to `folder`.

    What was in the folder of an earlier suite is deleted when all of the new one is made.

    `budget` is that of the students' environment. `manifest` is the `manifest.jsonl` of the source, whose hashes are
    then not taken again. Trajectories are made for the tasks of sft; captions, tasks and skims of warm_up give warm-up
    examples. Raises `StepStopped` where the endpoint fails: all that was made is kept, and the same call goes on.
    """
    maker = _Maker(remote, store, budget, settings or TeacherSettings())
    recordings = assign_splits(source.recordings(), shares, seed)
    films = [
        Film(recording, sha256) for recording, sha256 in zip(recordings, _hashes(recordings, manifest), strict=True)
    ]
    captions, summaries = maker.caption(films)
    verified = maker.ask(films, captions, summaries)
    trajectories = maker.teach(verified)
    examples = maker.warm_up(films, captions, [task for task, _ in verified], trajectories)
    folder = Path(folder)
    clear_suite(folder)
    for name, records in {
        "recordings": recordings,
        "captions": [c for r in recordings for c in [*captions[r.video], *summaries.get(r.video, [])]],
        "tasks": [task for task, _ in verified],
        "warm_up_examples": examples,
        "trajectories": [t for t in trajectories if t.task.split == "sft"],
    }.items():
        write_parquet(folder, name, SUITE[name], records)
    write_jsonl(folder / "rejected.jsonl", maker.funnel.rejected)
    write_json(folder / "funnel.json", [{"step": step, **counts} for step, counts in maker.funnel.steps.items()])
    return maker.funnel


class _Maker:
    """The steps in their order, with what they have in common."""

    def __init__(self, remote: RemoteModel, store: FrameStore, budget: ToolBudget, settings: TeacherSettings):
        self.remote, self.store, self.budget, self.settings = remote, store, budget, settings
        self.work = Path(settings.work)
        self.model = StructuredModel(remote, settings.max_tokens, request=settings.request)
        self.funnel = Funnel()

    def caption(self, films: Sequence[Film]) -> tuple[dict[str, list[Caption]], dict[str, list[Caption]]]:
        """The captions of the segments of every video, in order, and its summary (a list of one, or none)."""
        settings = self.settings
        scenes = self.run(SceneStep(settings.shortest, settings.longest), films, Scenes, _film_name)
        segments = [segment for film, found in scenes for segment in found.segments(film)]
        step = CaptionStep(self.model, self.store, settings.look)
        captions: dict[str, list[Caption]] = {film.recording.video: [] for film in films}
        for segment, caption in self.run(step, segments, Caption, _segment_name):
            captions[segment.film.recording.video].append(replace(caption, video=segment.film.recording.video))
        captioned = [CaptionedFilm(film, tuple(captions[film.recording.video])) for film in films]
        summaries = self.run(SummaryStep(self.model), captioned, Caption, lambda item: _film_name(item.film))
        return captions, {item.film.recording.video: [summary] for item, summary in summaries}

    def ask(
        self, films: Sequence[Film], captions: Mapping[str, list[Caption]], summaries: Mapping[str, list[Caption]]
    ) -> list[tuple[Task, Film]]:
        """The tasks that pass the checks and the verification, in the order of videos and time."""
        settings, model = self.settings, self.model
        asked = [
            neighbourhood
            for film in films
            for summary in summaries.get(film.recording.video, [])
            for neighbourhood in neighbourhoods(film, captions[film.recording.video], summary.text, settings.neighbours)
        ]
        step = QuestionStep(model, settings.questions)
        replies = self.run(step, asked, QuestionsReply, lambda item: f"{_film_name(item.film)}#{item.number}")
        different, repeated = drop_duplicates(draft for item, reply in replies for draft in drafts(item, reply))
        self.funnel.add("duplicates", len(different), [(_draft_name(draft), r) for draft, r in repeated])
        checked = self.run(CheckStep(model, settings.asks), different, Checked, _draft_name)
        step = VerificationStep(model, self.store, settings.look)
        passed = self.run(step, [draft for draft, _ in checked], Verified, _draft_name)
        return [(verified.task(draft), draft.film) for draft, verified in passed]

    def teach(self, verified: Sequence[tuple[Task, Film]]) -> list[Trajectory]:
        """Trajectories: of sft with tools for challenging tasks, without for easy ones; of warm_up for easy ones."""
        to_teach = [
            TeachingTask(task, film.sha256, tools=task.challenging)
            for task, film in verified
            if task.split == "sft" or (task.split == "warm_up" and not task.challenging)
        ]
        step = TrajectoryStep(self.model, self.store, self.budget)
        made = self.run(step, to_teach, Trajectory, lambda teaching: teaching.task.id)
        return [replace(trajectory, task=teaching.task) for teaching, trajectory in made]

    def warm_up(
        self,
        films: Sequence[Film],
        captions: Mapping[str, list[Caption]],
        tasks: Sequence[Task],
        trajectories: Sequence[Trajectory],
    ) -> list[WarmUpExample]:
        """The examples of every warm-up video."""
        asked: dict[str, list[Task]] = {}
        taught: dict[str, list[Trajectory]] = {}
        for task in tasks:
            asked.setdefault(task.video, []).append(task)
        for trajectory in trajectories:
            taught.setdefault(trajectory.task.video, []).append(trajectory)
        examples: list[WarmUpExample] = []
        for recording in (film.recording for film in films if film.recording.split == "warm_up"):
            video, told = recording.video, captions[recording.video]
            examples += captioned_examples(told, recording.duration, self.budget)
            examples += caption_examples(recording, told, self.store, self.budget)
            examples += look_examples(recording, asked.get(video, []), told, self.store, self.budget)
            examples += skim_examples(recording, taught.get(video, []), self.budget)
        return examples

    def run(
        self, step: Step, items: Sequence[Any], kind: type[Any], name: Callable[[Any], str]
    ) -> list[tuple[Any, Any]]:
        """The kept items with their records, in the order of the items. Raises `StepStopped` where an item failed."""
        settings, usage = self.settings, self.remote.usage
        coroutine = run_step(step, items, self.work, settings.concurrency, settings.stop_after, usage=usage)
        with ThreadPoolExecutor(1) as thread:  # a notebook has a running event loop of its own
            report = thread.submit(asyncio.run, coroutine).result()
        if report.failed:
            raise StepStopped(f"{step.name}: {report}; run the same command again, it asks only for those", report)
        keys = [step.key(item) for item in items]
        results = read_results(self.work, step.name, keys, kind)
        kept, rejected = [], []
        for item, key in zip(items, keys, strict=True):
            result = results[key]
            (rejected if isinstance(result, Rejected) else kept).append((item, result))
        self.funnel.add(step.name, len(kept), [(name(item), result) for item, result in rejected])
        return kept


def read_results(work: str | Path, name: str, keys: Iterable[str], kind: type[Any]) -> dict[str, Any]:
    """The record, or the `Rejected`, of every key that the step `name` has done in `work`."""
    wanted, adapter = set(keys), TypeAdapter(kind)
    lines = {line["key"]: line for line in read_lines(work, name) if line["key"] in wanted}
    return {
        key: Rejected(line["rejected"]) if "rejected" in line else adapter.validate_python(line["kept"])
        for key, line in lines.items()
    }


def _hashes(recordings: Sequence[Recording], manifest: str | Path | None) -> list[str]:
    """The SHA-256 of every video file, from the manifest where it has one."""
    known = {video.path: video.sha256 for video in read_jsonl(manifest, VideoFile)} if manifest else {}
    hashes = []
    for recording in tqdm(recordings, desc="hash", unit="video", mininterval=2):
        if recording.path not in known:
            with open(recording.path, "rb") as file:
                known[recording.path] = hashlib.file_digest(file, "sha256").hexdigest()
        hashes.append(known[recording.path])
    return hashes


def _film_name(film: Film) -> str:
    return film.recording.video


def _segment_name(segment: Segment) -> str:
    return f"{_film_name(segment.film)} {segment.window.start:g}-{segment.window.end:g} s"


def _draft_name(draft: Draft) -> str:
    return draft.task.id
