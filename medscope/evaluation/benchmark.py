"""ClinVideo-Eval on our splits: one loop over systems and questions, greedy, one table with intervals."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from pydantic.dataclasses import dataclass
from tqdm import tqdm

from medscope.environment.dialogue import call_text, parse_answer, parse_window, window_text
from medscope.environment.environment import ClinicalVideoEnvironment
from medscope.evaluation.judge import Judge, exact
from medscope.metrics import bootstrap_interval, evidence_window, is_covered, paired_difference, recall_at, temporal_iou
from medscope.agents.policy import Policy
from medscope.records import Task, Recording, ToolCall, Window
from medscope.rewards import turns_format_reward
from medscope.agents.rollout import Rollout, generate
from medscope.suite.build import Suite
from medscope.suite.free_text import OPEN_KINDS
from medscope.suite.teachers.scripted import Teacher
from medscope.environment.tools import ToolBudget, skim_seconds
from medscope.environment.video import FrameStore

SYSTEMS = ("prior", "uniform", "sft", "rl", "oracle")
SPLITS = ("cataract", "clips", "laparoscopy")  # stand where OphVL, MedVideoCap and SurgVidLM (out of domain) stand


@dataclass(frozen=True)
class Outcome:
    """What a system did with one question and how it scores. Windows in seconds; IoU 0 where there is no window."""

    question: Task
    turns: tuple[str, ...]
    calls: tuple[ToolCall, ...]
    accuracy: float
    format: float
    answer_iou: float  # of the window that the answer names
    crop_iou: float  # of the last executed crop
    hit: bool  # the last executed call looked at the evidence
    confidence: float = 0.0  # the model's probability of the tokens of its answer
    tokens: int = 0  # that the model spoke
    tool_frames: int = 0  # that its calls showed


def outcome(
    question: Task, answer: str | None, accuracy: float, rollout: Rollout | None = None, sure: float = 0.0
) -> Outcome:
    """One answer with the judge's verdict, and what the rollout's environment really executed."""
    evidence, named = evidence_window(question.evidence), parse_window(answer)
    window = rollout.environment._window if rollout else None
    calls = tuple(rollout.environment._calls) if rollout else ()
    executed = [call.name for call in calls if call.executed]
    last = None if not executed else window if executed[-1] == "crop_video" else rollout.environment._moment
    return Outcome(
        question=question,
        turns=tuple(rollout.turns) if rollout else (answer or "",),
        calls=calls,
        accuracy=accuracy,
        format=turns_format_reward(rollout.turns) if rollout else 1.0,
        answer_iou=temporal_iou(named, evidence) if named else 0.0,
        crop_iou=temporal_iou(window, evidence) if window else 0.0,
        hit=is_covered(question.evidence, last),
        confidence=sure,
        tokens=sum(rollout.assistant_mask) if rollout else 0,
        tool_frames=len(rollout.images) if rollout else 0,
    )


def confidence(policy: Policy, rollout: Rollout) -> float:
    """The model's probability of the tokens from `<answer>` on in its last turn, 0 to 1; 0 without an answer."""
    ids = rollout.pieces[-1].ids
    starts = [n for n in range(len(ids)) if "<answer>" in policy.tokenizer.decode(ids[: n + 1])]
    return float(np.exp(sum(rollout.logps[-len(ids) :][starts[0] + 1 :]))) if starts else 0.0


def run_policy(
    policy: Policy,
    questions: Sequence[Task],
    recordings: dict[str, Recording],
    store: FrameStore,
    budget: ToolBudget,
    tools: bool = True,
    oracle: bool = False,
    temperature: float = 0.0,
    batch_size: int = 64,
    label: str = "benchmark",
    judge: Judge = exact,
    make_environment: Callable[[Task], ClinicalVideoEnvironment] | None = None,
) -> list[Outcome]:
    """Answer every question once. `oracle` writes the first turn with the true window in place of the model's own."""
    make_environment = make_environment or (lambda _: ClinicalVideoEnvironment(store, budget))
    outcomes = []
    policy.cache_features = True
    for start in tqdm(range(0, len(questions), batch_size), desc=label, unit="batch"):
        batch = questions[start : start + batch_size]
        environments = [make_environment(question) for question in batch]
        for environment, question in zip(environments, batch, strict=True):
            environment.reset(path=recordings[question.video].path)
        forced = [oracle_turn(question, recordings[question.video], budget) for question in batch] if oracle else None
        texts = [question.text for question in batch]
        rollouts = generate(policy, environments, texts, tools=tools, temperature=temperature, forced_turns=forced)
        answers = [parse_answer(rollout.turns[-1]) for rollout in rollouts]
        sure = [confidence(policy, rollout) for rollout in rollouts]
        columns = (batch, answers, judged(batch, answers, judge), rollouts, sure)
        outcomes += [outcome(*row) for row in zip(*columns, strict=True)]
    policy.cache_features = False
    policy.forget_features()
    return outcomes


def judged(questions: Sequence[Task], answers: Sequence[str | None], judge: Judge) -> list[float]:
    """The judge's verdicts on the answers to these questions."""
    return judge([(q.text, answer, q.answer) for q, answer in zip(questions, answers, strict=True)])


def oracle_turn(question: Task, recording: Recording, budget: ToolBudget) -> str:
    """The first turn of the ceiling: the true storyline and a crop of the true evidence window."""
    seconds = skim_seconds(recording.duration, budget.skim_frames)
    teacher = Teacher(recording, question, seconds, recording.duration, 0.0, [0])
    window = evidence_window(question.evidence)
    call = call_text("crop_video", {"start_time": window.start, "end_time": min(window.end, recording.duration)})
    return teacher.thought("look") + call


class Prior:
    """Answers without the video: per kind the most frequent training answer, per phase its mean relative window."""

    def __init__(self, training: Iterable[Task], recordings: dict[str, Recording]):
        self.answers: dict[tuple[str, str], Counter] = {}
        self.windows: dict[str, list[tuple[float, float]]] = {}
        for question in training:
            self.answers.setdefault(_prior_key(question), Counter())[question.answer] += 1
            if isinstance(question.evidence, Window):
                duration = recordings[question.video].duration
                relative = (question.evidence.start / duration, question.evidence.end / duration)
                self.windows.setdefault(question.phase, []).append(relative)

    def answer(self, question: Task, duration: float) -> str:
        if question.kind == "grounding":
            start, end = np.mean(self.windows.get(question.phase, [(0.0, 1.0)]), axis=0) * duration
            return window_text(Window(round(start, 1), round(end, 1)))
        counts = self.answers.get(_prior_key(question))
        return counts.most_common(1)[0][0] if counts else ""


def _prior_key(question: Task) -> tuple[str, str]:
    return question.family.removesuffix("_clips"), question.kind


def run_prior(suite: Suite, questions: Sequence[Task], judge: Judge = exact) -> list[Outcome]:
    """The no-video baseline on every question, made of the questions that warm-up and SFT learn from."""
    recordings = suite.recordings_by_video
    taught = (q for q in suite.question_list if q.split in ("warm_up", "sft") and q.kind not in OPEN_KINDS)
    prior = Prior(taught, recordings)
    answers = [prior.answer(q, recordings[q.video].duration) for q in questions]
    return [outcome(*row) for row in zip(questions, answers, judged(questions, answers, judge), strict=True)]


def per_question(outcomes: Sequence[Outcome]) -> dict[str, tuple[list[float], list[str]]]:
    """Every metric's values, of the questions that count for it, and the videos of these.

    tg_*: temporal grounding, from the answer's window. vqa_*: the other kinds, from the last crop and the answer.
    """
    grounding = [o for o in outcomes if o.question.kind == "grounding"]
    vqa = [o for o in outcomes if o.question.kind != "grounding"]
    columns = {
        **{f"tg_r{k}": (grounding, recall_at([o.answer_iou for o in grounding], k / 100)) for k in (30, 50, 70)},
        "tg_miou": (grounding, [o.answer_iou for o in grounding]),
        "vqa_miou": (vqa, [o.crop_iou for o in vqa]),
        "vqa_acc": (vqa, [o.accuracy for o in vqa]),
        "evidence_miou": (outcomes, [o.crop_iou for o in outcomes]),
        "evidence_hit": (outcomes, [float(o.hit) for o in outcomes]),
        "accuracy": (outcomes, [o.accuracy for o in outcomes]),
        "format": (outcomes, [o.format for o in outcomes]),
        "tool_calls": (outcomes, [float(len(o.calls)) for o in outcomes]),
    }
    return {name: (values, [o.question.video for o in asked]) for name, (asked, values) in columns.items()}


def score(outcomes: Sequence[Outcome]) -> dict[str, float | list[float] | None]:
    """All metrics of one system on one split, each with its 95 % interval (videos resampled); None if not asked."""
    table: dict[str, float | list[float] | None] = {}
    for name, (values, videos) in per_question(outcomes).items():
        table[name] = float(np.mean(values)) if values else None
        table[f"{name}_ci"] = list(bootstrap_interval(values, videos)) if values else None
    return table


def paired(
    after: Sequence[Sequence[Outcome]], before: Sequence[Sequence[Outcome]], metrics: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """One system minus another on the same questions: `mean`, its 95 % interval `ci` (videos resampled), and the mean
    of every seed `after` and `before`. A question's value is its mean over seeds; metrics that are not asked are left
    out.
    """
    new, old = ([per_question(outcomes) for outcomes in seeds] for seeds in (after, before))
    rows = {}
    for metric in [name for name in metrics if new[0][name][0]]:
        ours, theirs = (np.array([seed[metric][0] for seed in seeds]) for seeds in (new, old))
        means = (ours.mean(axis=0).tolist(), theirs.mean(axis=0).tolist())
        difference, interval = paired_difference(*means, new[0][metric][1])
        rows[metric] = {
            "mean": difference, "ci": list(interval),
            "after": ours.mean(axis=1).tolist(), "before": theirs.mean(axis=1).tolist(),
        }  # fmt: skip
    return rows


def compare_systems(
    suite: Suite,
    questions: dict[str, list[Task]],
    store: FrameStore,
    budget: ToolBudget,
    policies: dict[str, Policy],
    judge: Judge = exact,
) -> tuple[dict[str, dict[str, list[Outcome]]], dict[str, Any], dict[str, dict[str, str]]]:
    """All systems on all splits: outcomes, the table {system: {split: {metric, metric_ci}}}, what RL gains over SFT.

    `policies` are `sft` and `rl`. `uniform` is the SFT policy without tools, `oracle` the RL policy with the true first
    turn written for it.
    """
    recordings = suite.recordings_by_video
    found: dict[str, dict[str, list[Outcome]]] = {system: {} for system in SYSTEMS}
    for split, asked in questions.items():
        found["prior"][split] = run_prior(suite, asked, judge)
        for system in SYSTEMS[1:]:
            policy = policies["sft" if system in ("uniform", "sft") else "rl"]
            found[system][split] = run_policy(
                policy, asked, recordings, store, budget,
                tools=system != "uniform", oracle=system == "oracle", label=f"{system} {split}", judge=judge,
            )  # fmt: skip
    table = {system: {split: score(outcomes) for split, outcomes in splits.items()} for system, splits in found.items()}
    gains = {split: gain(found["sft"][split], found["rl"][split]) for split in questions}
    return found, table, gains


def gain(before: Sequence[Outcome], after: Sequence[Outcome]) -> dict[str, str]:
    """Paired differences of the four numbers that the project promises, with intervals over videos."""
    rows = paired([after], [before], ("evidence_miou", "tg_r70", "accuracy", "evidence_hit"))
    return {name: f"{row['mean']:+.3f} [{row['ci'][0]:+.3f}, {row['ci'][1]:+.3f}]" for name, row in rows.items()}
