"""R_acc: does the answer say what the reference says? `exact` needs no model, is fast and never guesses."""

import re
import string

from medscope.dialogue import MAX_ANSWER_CHARACTERS, parse_window
from medscope.metrics import recall_at, temporal_iou

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalise(text: str) -> str:
    """Lower case, no punctuation, no articles, single spaces."""
    text = text.lower().translate(str.maketrans("", "", string.punctuation))
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
