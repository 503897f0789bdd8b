"""Scores of free text as SVU-31K reports them: descriptions by four questions to a judge, reasoning by n-grams.

Each number comes from the package that the field uses (nltk, rouge, pycocoevalcap). Text is lower-cased and stripped of
punctuation first; pycocoevalcap's own tokenizer, like its METEOR, would need Java.
"""

import shutil
import string
from collections.abc import Sequence
from functools import cache

from nltk.translate.bleu_score import corpus_bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from rouge import Rouge

from medscope.evaluation.endpoint import Endpoint

RATINGS = {
    "CI": "correctness of information: does the description say what the reference says, and nothing false?",
    "DO": "detail orientation: does it name the details that the reference names, specifically?",
    "CU": "contextual understanding: does it fit the procedure as a whole, as the reference tells it?",
    "TU": "temporal understanding: does it tell the events in the order and at the times of the reference?",
}


def plain_words(text: str) -> list[str]:
    """Lower case, no punctuation, split at spaces."""
    return text.lower().translate(str.maketrans("", "", string.punctuation)).split()


def bleu4(texts: Sequence[str], references: Sequence[str]) -> float:
    """Corpus BLEU-4 without smoothing, in per cent."""
    return 100 * float(corpus_bleu([[plain_words(r)] for r in references], [plain_words(t) for t in texts]))


def rouge_l(texts: Sequence[str], references: Sequence[str]) -> float:
    """Mean ROUGE-L F1, in per cent; an empty text scores 0."""
    pairs = [(" ".join(plain_words(t)), " ".join(plain_words(r))) for t, r in zip(texts, references, strict=True)]
    scores = [Rouge().get_scores(*pair)[0]["rouge-l"]["f"] if all(pair) else 0.0 for pair in pairs]
    return 100 * sum(scores) / len(scores)


def cider(texts: Sequence[str], references: Sequence[str]) -> float:
    """CIDEr as pycocoevalcap gives it (0 to 10); its inverse document frequencies are those of these references."""
    return float(Cider().compute_score(_numbered(references), _numbered(texts))[0])


def meteor(texts: Sequence[str], references: Sequence[str]) -> float | None:
    """METEOR in per cent, or None where there is no Java."""
    if not shutil.which("java"):
        return None
    return 100 * float(_meteor().compute_score(_numbered(references), _numbered(texts))[0])


@cache
def _meteor() -> Meteor:
    """One Java process for all tables: it takes seconds to start."""
    return Meteor()


def _numbered(texts: Sequence[str]) -> dict[int, list[str]]:
    return {number: [" ".join(plain_words(text))] for number, text in enumerate(texts)}


def ngram_scores(texts: Sequence[str], references: Sequence[str]) -> dict[str, float | None]:
    """The reasoning tasks' columns; METEOR is None, and the tables show a dash, without Java."""
    scores = {"BLEU-4": bleu4, "CIDEr": cider, "METEOR": meteor, "ROUGE-L": rouge_l}
    return {name: score(texts, references) for name, score in scores.items()}


def rated(endpoint: Endpoint, texts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """The descriptions' columns CI, DO, CU, TU: means of integers from 1 to 5. Raises `JudgeError`."""
    contents = [f"Reference: {r}\nDescription: {t}" for t, r in zip(texts, references, strict=True)]
    found = {}
    for name, question in RATINGS.items():
        system = (
            f"You rate a description of a clinical video against a reference by one question only. {question} "
            "Reply with one integer from 1 (not at all) to 5 (fully) and nothing else."
        )
        ratings = endpoint.ask(system, contents, read_rating)
        found[name] = sum(ratings) / len(ratings)
    return found


def read_rating(reply: str) -> float | None:
    """The integer from 1 to 5 that a reply is, or None."""
    text = reply.strip(" .*\n")
    return float(text) if text in ("1", "2", "3", "4", "5") else None
