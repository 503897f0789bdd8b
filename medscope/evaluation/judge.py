"""R_acc: does the answer say what the reference says? `exact` needs no model and never guesses; `llm` asks one.

A judge takes (question, answer, reference) of many answers at once and returns their verdicts in {1, .5, 0}. One that
cannot be reached raises `JudgeError`: an outage is never a zero.
"""

import re
import string
from collections.abc import Callable, Sequence

from medscope.environment.dialogue import MAX_ANSWER_CHARACTERS, parse_window
from medscope.evaluation.endpoint import Endpoint, JudgeError
from medscope.metrics import recall_at, temporal_iou

Asked = tuple[str, str | None, str]  # question, answer (None: there is none), reference
Judge = Callable[[Sequence[Asked]], list[float]]

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NUMBER = re.compile(r"\d*\.?\d+")
_PUNCTUATION = re.compile(rf"[{re.escape(string.punctuation.replace('.', ''))}]|\.(?!\d)")  # not the decimal point
_VERDICT = re.compile(r"\W*(1(?:\.0)?|0?\.5|0(?:\.0)?)(?![\d.])")

RUBRIC = (
    "You grade answers to questions on clinical videos. Compare the answer with the reference. Reply with one number "
    "and nothing else: 1 if the answer means the same as the reference, 0.5 if it is partly right or less precise, 0 "
    "if it is wrong or says nothing."
)


def normalise(text: str) -> str:
    """Lower case, no punctuation, no articles, single spaces, numbers in one form (3.50 is 3.5)."""
    text = _PUNCTUATION.sub("", text.lower())
    text = _NUMBER.sub(lambda number: f"{float(number[0]):g}", text)
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact_judge(answer: str | None, reference: str) -> float:
    """R_acc in {1, .5, 0}. Windows: 1 for IoU >= .5, .5 for IoU >= .3. Text: 1 if equal once normalised.

    No answer, or one of 1000 characters and more, scores 0.
    """
    if answer is None or len(answer) >= MAX_ANSWER_CHARACTERS:
        return 0.0
    expected = parse_window(reference)
    if expected is None:
        return float(normalise(answer) == normalise(reference))
    given = parse_window(answer)
    iou = temporal_iou(given, expected) if given else 0.0
    return 0.5 * (recall_at([iou], 0.5)[0] + recall_at([iou], 0.3)[0])


def exact(asked: Sequence[Asked]) -> list[float]:
    """The exact judge of many answers."""
    return [exact_judge(answer, reference) for _, answer, reference in asked]


class LLMJudge:
    """A model behind an endpoint grades by the rubric; windows are still judged by their IoU."""

    def __init__(self, endpoint: Endpoint):
        self.endpoint = endpoint

    def __call__(self, asked: Sequence[Asked]) -> list[float]:
        """The verdicts; none or too long an answer is 0 without a request. Raises `JudgeError`."""
        verdicts = exact(asked)
        open_ones = [i for i, (_, answer, reference) in enumerate(asked) if _is_open(answer, reference)]
        contents = ["Task: {}\nAnswer: {}\nReference: {}".format(*asked[i]) for i in open_ones]
        for i, verdict in zip(open_ones, self.endpoint.ask(RUBRIC, contents, read_verdict), strict=True):
            verdicts[i] = verdict
        return verdicts


def _is_open(answer: str | None, reference: str) -> bool:
    """Whether it takes a reader to judge: there is an answer of a fair length, to what is not a window."""
    return answer is not None and len(answer) < MAX_ANSWER_CHARACTERS and parse_window(reference) is None


def read_verdict(reply: str) -> float | None:
    """The 1, 0.5 or 0 with which a reply begins, or None."""
    match = _VERDICT.match(reply)
    return float(match[1]) if match else None


def make_judge(name: str) -> Judge:
    """The judge of a parameter: `exact` or `llm`. Raises `JudgeError` for others, or without an endpoint."""
    if name == "exact":
        return exact
    if name != "llm":
        raise JudgeError(f"judge {name!r} is unknown; choose exact or llm")
    return LLMJudge(Endpoint())
