"""Step 5: what text alone finds wrong with a question: leaks, yes or no, duplicates, answerable without the video."""

import re
from collections.abc import Callable, Iterable, Sequence

from pydantic.dataclasses import dataclass

from medscope.evaluation.judge import normalise
from medscope.metrics import evidence_window, temporal_iou
from medscope.suite.bulk import Rejected
from medscope.suite.tasks import too_long
from medscope.suite.teachers.endpoint.answers import RIGHT, AnswerReply, Grader, as_question
from medscope.suite.teachers.endpoint.prompts import load_prompt
from medscope.suite.teachers.endpoint.questions import Draft
from medscope.suite.teachers.endpoint.structured import BadReply, StructuredModel, content_key

BLIND_TEMPERATURE = 1.0  # so that asking again is another try
NGRAM = 2  # words
SAME_WORDS, LIKE_WORDS = 0.9, 0.4  # share of the n-grams of two questions that they have in common (Jaccard)
SAME_EVIDENCE = 0.3  # IoU

_TIME = re.compile(r"\d+:\d{2}|\d\s*(?:s|secs?|seconds?|min|minutes?)\b|\b(?:second|minute)s?\s+\d", re.I)
_SOURCE = re.compile(r"\b(?:captions?|transcripts?|according to the (?:text|description|summary))\b", re.I)
_YES_NO = re.compile(r"(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would)\b", re.I)


@dataclass(frozen=True)
class Checked:
    """A draft that passed: how many of the answers without frames were right all the same."""

    right: int


class CheckStep:
    """Draft -> Checked. Text checks first; then the model answers without frames, `asks` times.

    A question that it answers right more than half of the time is rejected: with options one try in four is luck.
    """

    name = "checks"

    def __init__(self, model: StructuredModel, asks: int = 3):
        if asks < 1:
            raise ValueError(f"asks is {asks}; a question is asked without frames at least once")
        self.model, self.asks, self.prompt, self.grader = model, asks, load_prompt("answer"), Grader(model)

    def key(self, draft: Draft) -> str:
        return content_key(self.name, draft_content(draft), self.asks, self.prompt.hash, self.grader.identity)

    async def __call__(self, draft: Draft) -> Checked | Rejected:
        reasons = text_faults(draft)
        if reasons:
            return Rejected(counted(reasons))
        right = 0
        try:
            for _ in range(self.asks):
                data = as_question(draft)
                reply = await self.model.ask(self.prompt, AnswerReply, data, temperature=BLIND_TEMPERATURE)
                right += await self.grader.score(draft.task, reply.answer) >= RIGHT
        except BadReply as error:
            return Rejected(str(error))
        if 2 * right > self.asks:
            return Rejected(f"answerable without the video: {right} of {self.asks} answers without frames are right")
        return Checked(right)


def draft_content(draft: Draft) -> list[object]:
    """What of a draft decides a request about it."""
    window = evidence_window(draft.task.evidence)
    return [draft.film.sha256, draft.task.id, draft.task.question, draft.answer, window.start, window.end]


def counted(reasons: Sequence[str]) -> str:
    """Reasons as one: the first counts, the others stand behind its colon."""
    first, *others = reasons
    return f"{first}: also {', '.join(others)}" if others else first


def text_faults(draft: Draft) -> list[str]:
    """The reasons to drop a question by its text and the length of its evidence; none for a good one."""
    stem, answer = draft.stem, f" {normalise(draft.answer)} "
    timed = isinstance(draft.task.reference, type(draft.task.evidence))
    checks: dict[str, Callable[[], bool]] = {
        "leaks its answer": lambda: not timed and answer in f" {normalise(stem)} ",
        "leaks its time": lambda: bool(_TIME.search(stem)),
        "speaks of its captions": lambda: bool(_SOURCE.search(stem)),
        "yes or no": lambda: answer.strip() in ("yes", "no") or (not draft.options and bool(_YES_NO.match(stem))),
        "window too long": lambda: too_long(draft.task.evidence, draft.film.recording.duration),
    }
    return [reason for reason, holds in checks.items() if holds()]


def drop_duplicates(drafts: Iterable[Draft]) -> tuple[list[Draft], list[tuple[Draft, Rejected]]]:
    """The drafts in order without those that repeat an earlier one of the same video.

    Two questions are the same in the same words, or in like words about the same stretch of video. Options do not
    count.
    """
    kept: list[Draft] = []
    dropped: list[tuple[Draft, Rejected]] = []
    by_video: dict[str, list[Draft]] = {}
    for draft in drafts:
        earlier = by_video.setdefault(draft.task.video, [])
        same = next((other for other in earlier if is_repeated(draft, other)), None)
        if same is None:
            earlier.append(draft)
            kept.append(draft)
        else:
            dropped.append((draft, Rejected(f"duplicate: it repeats {same.task.id}")))
    return kept, dropped


def is_repeated(draft: Draft, other: Draft) -> bool:
    """Whether two questions about one video are the same."""
    own, others = ngrams(draft.stem), ngrams(other.stem)
    share = len(own & others) / len(own | others)
    overlap = temporal_iou(evidence_window(draft.task.evidence), evidence_window(other.task.evidence))
    return share >= SAME_WORDS or (share >= LIKE_WORDS and overlap >= SAME_EVIDENCE)


def ngrams(text: str) -> set[tuple[str, ...]]:
    """The pairs of neighbouring words of a normalised text, with its ends."""
    words = ["<", *normalise(text).split(), ">"]
    return {tuple(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)}
