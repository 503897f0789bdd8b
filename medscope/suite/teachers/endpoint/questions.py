"""Step 4: questions over neighbouring captions, each with the window or the timestamp that answers it."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Literal

from pydantic import ValidationInfo, field_validator, model_validator
from pydantic.dataclasses import dataclass

from medscope.evaluation.judge import normalise
from medscope.records import Caption, Evidence, Reference, Task, Text, Timestamp, Window
from medscope.suite.bulk import Rejected
from medscope.suite.tasks import GROUNDING
from medscope.suite.teachers.endpoint.captions import OUTSIDE, Words, as_data
from medscope.suite.teachers.endpoint.prompts import load_prompt
from medscope.suite.teachers.endpoint.scenes import Film
from medscope.suite.teachers.endpoint.structured import BadReply, Reply, StructuredModel, content_key

KINDS = (GROUNDING, "temporal", "perception", "reasoning")
WRONG_OPTIONS = 3


@dataclass(frozen=True)
class Neighbourhood:
    """Captions of neighbouring segments of a film, in order, with the film's summary. `number`: which of the film."""

    film: Film
    captions: tuple[Caption, ...]
    summary: str
    number: int


@dataclass(frozen=True)
class Draft:
    """A question that no check has seen yet.

    `task` is what an agent will read. `stem` is the question without its `options`, `answer` the right answer in words.
    """

    film: Film
    task: Task
    stem: str
    answer: str
    options: tuple[str, ...] = ()


class Question(Reply):
    kind: Literal["grounding", "temporal", "perception", "reasoning"]
    form: Literal["time", "choice", "text"]
    question: Words
    answer: Words
    wrong: list[Words]
    subject: Words
    start: float
    end: float

    @model_validator(mode="after")
    def _fit(self, info: ValidationInfo) -> "Question":
        if (self.form == "time") != (self.kind == GROUNDING):
            raise ValueError("form is time for the kind grounding, and for no other")
        if len(self.wrong) != (WRONG_OPTIONS if self.form == "choice" else 0):
            raise ValueError(f"wrong has {WRONG_OPTIONS} entries for the form choice, and none for another")
        texts = {normalise(text) for text in (self.answer, *self.wrong)}
        if len(texts) <= len(self.wrong) or "" in texts:
            raise ValueError("answer and wrong must be different words, and more than an article or a sign")
        window = info.context["window"] if info.context else None  # a reply that was kept has been checked
        if window and not window.start - OUTSIDE <= self.start <= self.end <= window.end + OUTSIDE:
            raise ValueError(
                f"the evidence must lie within the captions, start <= end, {window.start:g} to {window.end:g} s"
            )
        return self

    def evidence(self, duration: float) -> Evidence:
        start, end = (round(min(max(second, 0.0), duration), 2) for second in (self.start, self.end))
        return Timestamp(start) if start == end else Window(start, end)


class QuestionsReply(Reply):
    questions: list[Question]

    @field_validator("questions")
    @classmethod
    def _few(cls, questions: list[Question], info: ValidationInfo) -> list[Question]:
        most = info.context["count"] if info.context else len(questions)
        if len(questions) > most:
            raise ValueError(f"has {len(questions)} entries, more than {most}")
        return questions


class QuestionStep:
    """Neighbourhood -> QuestionsReply of at most `count` questions; `drafts` makes items for the checks of them."""

    name = "questions"

    def __init__(self, model: StructuredModel, count: int = 4):
        self.model, self.count, self.prompt = model, count, load_prompt("questions")
        self.form = content_key(QuestionsReply.model_json_schema())  # of what is kept

    def key(self, neighbourhood: Neighbourhood) -> str:
        film = neighbourhood.film
        about = (film.sha256, film.recording.video, neighbourhood.number)
        read = (as_data(neighbourhood.captions), neighbourhood.summary)
        return content_key(self.name, *about, *read, self.count, self.form, self.prompt.hash, self.model.identity)

    async def __call__(self, neighbourhood: Neighbourhood) -> QuestionsReply | Rejected:
        captions = neighbourhood.captions
        data = {"summary": neighbourhood.summary, "captions": as_data(captions), "count": self.count}
        context = {"window": Window(captions[0].window.start, captions[-1].window.end), "count": self.count}
        try:
            return await self.model.ask(self.prompt, QuestionsReply, data, context=context)
        except BadReply as error:
            return Rejected(str(error))


def drafts(neighbourhood: Neighbourhood, reply: QuestionsReply) -> list[Draft]:
    """The questions of a neighbourhood as drafts, numbered within their film."""
    return [
        make_draft(neighbourhood.film, f"{neighbourhood.number}.{i}", question)
        for i, question in enumerate(reply.questions)
    ]


def make_draft(film: Film, number: str, question: Question) -> Draft:
    """A question as a task of its film. Options stand in the question; the reference is the words of the right one."""
    recording = film.recording
    evidence = question.evidence(recording.duration)
    options = _shuffled((question.answer, *question.wrong), question.question) if question.form == "choice" else ()
    reference: Reference = evidence if question.form == "time" else Text(question.answer)
    task = Task(
        id=f"{recording.video}/{question.kind}/{number}",
        video=recording.video,
        path=recording.path,
        question="\n".join([question.question, *(f"- {option}" for option in options)]),
        reference=reference,
        evidence=evidence,
        kind=question.kind,
        split=recording.split,
        collection=recording.collection,
        domain=recording.domain,
        subject=question.subject,
        free_text=question.form == "text",
    )
    return Draft(film, task, question.question, question.answer, options)


def _shuffled(options: tuple[str, ...], stem: str) -> tuple[str, ...]:
    """The options in an order that depends on their words alone."""
    return tuple(sorted(options, key=lambda option: sha256(f"{stem}\n{option}".encode()).digest()))


def neighbourhoods(film: Film, captions: Sequence[Caption], summary: str, size: int = 3) -> list[Neighbourhood]:
    """Runs of `size` captions, each beginning with the last of the one before; all of them where there are fewer."""
    step = max(1, size - 1)
    firsts = range(0, max(1, len(captions) - 1), step) if captions else ()
    return [Neighbourhood(film, tuple(captions[i : i + size]), summary, n) for n, i in enumerate(firsts)]
