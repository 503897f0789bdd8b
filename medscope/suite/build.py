"""The whole suite: build it from rendered procedures, store it as JSON lines, load it again, count it."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from medscope.environment.environment import ClinicalVideoEnvironment
from medscope.records import Caption, WarmUpExample, Task, Recording, Trajectory, read_jsonl, write_jsonl
from medscope.sources.rendered.world import render
from medscope.suite.captions import captions
from medscope.suite.free_text import OPEN_FAMILIES, OPEN_KINDS, open_questions
from medscope.suite.tasks import CHALLENGING, questions
from medscope.suite.trajectories import make_trajectories
from medscope.suite.warm_up import captioned_examples, framed_examples
from medscope.environment.tools import ToolBudget
from medscope.environment.video import FrameStore

if TYPE_CHECKING:
    from medscope.pipeline.layout import Layout

FILES = {
    "recordings": Recording,
    "captions": Caption,
    "question_list": Task,
    "lessons": WarmUpExample,
    "trajectories": Trajectory,
}


@dataclass
class Suite:
    """ClinVideoSuite in memory."""

    recordings: list[Recording]
    captions: list[Caption]
    question_list: list[Task]
    lessons: list[WarmUpExample]  # stage I
    trajectories: list[Trajectory]  # stage II: VCoT with tools, CoT without
    rejected: dict[str, int] = field(default_factory=dict)

    @cached_property
    def recordings_by_video(self) -> dict[str, Recording]:
        return {recording.video: recording for recording in self.recordings}

    @cached_property
    def questions(self) -> dict[str, Task]:
        return {question.id: question for question in self.question_list}

    def recording(self, trajectory: Trajectory) -> Recording:
        return self.recordings_by_video[self.questions[trajectory.question].video]


def build_suite(
    place: "Layout",
    counts: dict[tuple[str, str], int],
    store: FrameStore,
    budget: ToolBudget,
    skims_per_question: int,
    captioned: int,
    looks_per_question: int,
    questions_per_video: int,
    open_per_video: int,
    boundary_slack: float,
    direct_share: float,
    seed: int,
    workers: int,
) -> Suite:
    """Render, caption, ask, verify and teach; write everything below `place`."""
    recordings = render(counts, place.videos, seed, budget.skim_frames, workers)
    by_video = {recording.video: recording for recording in recordings}
    asked = [q for i, r in enumerate(recordings) for q in questions(r, np.random.default_rng([seed, 2, i]))]
    whole = [q for q in asked if q.split in ("warm_up", "eval")]
    asked = whole + [q for split in ("sft", "rl") for q in _sample(asked, split, questions_per_video, seed)]
    split = {name: [q for q in asked if q.split == name] for name in ("warm_up", "sft")}
    lessons = captioned_examples(captioned, budget.skim_frames, boundary_slack, seed) + framed_examples(
        split["warm_up"], by_video, store, budget, skims_per_question, looks_per_question, boundary_slack, seed
    )
    described = [
        question
        for i, r in enumerate(recordings)
        if r.family in OPEN_FAMILIES and r.split in ("sft", "eval")
        for question in open_questions(r, np.random.default_rng([seed, 8, i]))
    ]
    taught_open = _sample(described, "sft", open_per_video, seed)
    asked += taught_open + [q for q in described if q.split == "eval"]
    environment = ClinicalVideoEnvironment(store, budget)
    taught = split["sft"] + taught_open
    trajectories, rejected = make_trajectories(taught, by_video, environment, boundary_slack, direct_share, seed)
    suite = Suite(
        recordings, [c for r in recordings for c in captions(r)], asked, lessons, trajectories, dict(rejected)
    )
    for name in FILES:
        write_jsonl(place.suite / f"{name}.jsonl", getattr(suite, name))
    return suite


def _sample(asked: list[Task], split: str, most: int, seed: int) -> list[Task]:
    """At most `most` questions per video of a split: many videos teach more than many questions about each."""
    rng = np.random.default_rng([seed, 6])
    by_video: dict[str, list[Task]] = {}
    for question in asked:
        if question.split == split:
            by_video.setdefault(question.video, []).append(question)
    return [found[i] for found in by_video.values() for i in sorted(rng.permutation(len(found))[:most])]


def load_suite(place: "Layout") -> Suite:
    """Read the suite that `build_suite` wrote."""
    return Suite(**{name: read_jsonl(place.suite / f"{name}.jsonl", kind) for name, kind in FILES.items()})


def summarise(suite: Suite) -> dict[str, Any]:
    """Counts per split, rejections, and the chance level: how often the most frequent answer of a kind is right."""
    taught = {suite.questions[t.question].split for t in suite.trajectories}
    closed = [q for q in suite.question_list if q.kind not in OPEN_KINDS]
    splits = {}
    for split in sorted({r.split for r in suite.recordings}):
        asked = [q for q in suite.question_list if q.split == split]
        hours = sum(r.duration for r in suite.recordings if r.split == split) / 3600
        splits[split] = {
            "videos": sum(r.split == split for r in suite.recordings),
            "hours": round(hours, 2),
            "questions": sum(q.kind not in OPEN_KINDS for q in asked),
            **({"open questions": len(some)} if (some := [q for q in asked if q.kind in OPEN_KINDS]) else {}),
            **({"lessons": len(suite.lessons)} if split == "warm_up" else {}),
            **({"trajectories": len(suite.trajectories)} if split in taught else {}),
        }
    kinds = Counter((q.family, q.kind) for q in closed)
    answers = Counter((q.family, q.kind, q.answer) for q in closed if q.kind in CHALLENGING)
    enough = {key: kinds[key[:2]] for key in answers if kinds[key[:2]] >= 500}  # shares of few questions are noise
    chance = max((answers[key] / total for key, total in enough.items()), default=0.0)
    return {"splits": splits, "rejected": suite.rejected, "chance": round(chance, 3)}
