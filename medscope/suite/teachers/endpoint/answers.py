"""Answers of the endpoint to a question, and their scores: options and times by rule, free text by a grade."""

from typing import Any

from pydantic import field_validator

from medscope.environment.grammar import MAX_ANSWER_CHARACTERS
from medscope.evaluation.judge import exact_judge, text_of
from medscope.records import Task
from medscope.suite.teachers.endpoint.prompts import load_prompt
from medscope.suite.teachers.endpoint.questions import Draft
from medscope.suite.teachers.endpoint.structured import Reply, StructuredModel

RIGHT = 0.85  # an answer of this score or more is right


class AnswerReply(Reply):
    seen: str
    answer: str | None


class GradeReply(Reply):
    score: float

    @field_validator("score")
    @classmethod
    def _share(cls, score: float) -> float:
        if not 0 <= score <= 1:
            raise ValueError(f"is {score:g}, not between 0 and 1")
        return score


class Grader:
    """Scores answers in [0, 1]. No answer is 0 without a request."""

    def __init__(self, model: StructuredModel):
        self.model, self.prompt = model, load_prompt("grade")

    @property
    def identity(self) -> list[Any]:
        """What decides a grade, for content keys."""
        return [self.prompt.hash, *self.model.identity]

    async def score(self, task: Task, answer: str | None) -> float:
        """Options and times as the exact judge grades them, free text by the model. Raises as `StructuredModel.ask`."""
        if answer is None or not answer.strip() or len(answer) >= MAX_ANSWER_CHARACTERS:
            return 0.0
        exact = exact_judge(answer, task.reference)
        if not task.free_text or exact == 1:
            return exact
        data = {"question": task.question, "reference": text_of(task.reference), "answer": answer}
        return (await self.model.ask(self.prompt, GradeReply, data, temperature=0.0)).score


def as_question(draft: Draft) -> dict[str, Any]:
    """The question of a draft as JSON data of a prompt."""
    return {"question": draft.stem, **({"options": list(draft.options)} if draft.options else {})}
