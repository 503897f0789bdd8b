"""Stage I data of what the teacher made: captioned skims (text alone), dense looks, skims with a thought."""

from collections.abc import Iterable, Sequence

from medscope.environment import FrameStore, ToolBudget
from medscope.environment.grammar import MAX_ANSWER_CHARACTERS, window_text
from medscope.environment.tools import crop_seconds, skim_seconds
from medscope.evaluation.judge import text_of
from medscope.metrics import evidence_window
from medscope.records import Caption, Recording, Task, Trajectory, WarmUpExample, Window
from medscope.sources.source import TEMPLATES

WHEN_SEEN = "When is this seen: {text}"


def captioned_examples(captions: Sequence[Caption], duration: float, budget: ToolBudget) -> list[WarmUpExample]:
    """Captions in the place of frames, at the seconds where they begin: what is told of a window, and when it is seen.

    Every caption gives both questions, with at most `skim_frames` captions around it. Without frames a model learns
    first to copy a text and a second.
    """
    examples = []
    for number, caption in enumerate(captions):
        first = max(0, min(number - budget.skim_frames // 2, len(captions) - budget.skim_frames))
        shown, text, window = captions[first : first + budget.skim_frames], shortened(caption.text), caption.window
        told = TEMPLATES["fine"][number % len(TEMPLATES["fine"])].format(start=window.start, end=window.end)
        for question, thought, answer in (
            (told, window_text(window), text),
            (WHEN_SEEN.format(text=text), text, window_text(window)),
        ):
            example = WarmUpExample(
                video="",
                path="",
                question=question,
                seconds=tuple(c.window.start for c in shown),
                max_pixels=0,
                end=min(shown[-1].window.end, duration),
                turn=f"<think>{thought}</think><answer>{answer}</answer>",
                captions=tuple(shortened(c.text) for c in shown),
            )
            examples.append(example)
    return examples


def caption_examples(
    recording: Recording, captions: Iterable[Caption], store: FrameStore, budget: ToolBudget
) -> list[WarmUpExample]:
    """A dense look at every captioned window; the caption is the answer, cut after a sentence where it is too long."""
    examples = []
    for number, caption in enumerate(captions):
        window = caption.window
        templates = TEMPLATES["fine"]
        question = templates[number % len(templates)].format(start=window.start, end=window.end)
        turn = f"<think>from {window.start:g} to {window.end:g} s</think><answer>{shortened(caption.text)}</answer>"
        examples.append(_look(recording, question, window, turn, store, budget))
    return examples


def look_examples(
    recording: Recording, tasks: Iterable[Task], captions: Sequence[Caption], store: FrameStore, budget: ToolBudget
) -> list[WarmUpExample]:
    """A dense look at the evidence of every task: what the captions of that window say, then the reference."""
    examples = []
    for task in tasks:
        window = _within(evidence_window(task.evidence), recording.duration)
        seen = [c.text for c in captions if c.window.start < window.end and window.start < c.window.end]
        turn = f"<think>{' '.join(seen)}</think><answer>{text_of(task.reference)}</answer>"
        examples.append(_look(recording, task.question, window, turn, store, budget))
    return examples


def skim_examples(recording: Recording, trajectories: Iterable[Trajectory], budget: ToolBudget) -> list[WarmUpExample]:
    """The whole skim and the only turn of every trajectory without tools."""
    seconds = tuple(skim_seconds(recording.duration, budget.skim_frames))
    return [
        _example(recording, t.task.question, seconds, budget.skim_pixels, recording.duration, t.turns[0])
        for t in trajectories
        if not t.tools
    ]


def shortened(text: str) -> str:
    """A text that can be an answer: cut after the last sentence that fits."""
    if len(text) < MAX_ANSWER_CHARACTERS:
        return text
    head = text[: MAX_ANSWER_CHARACTERS - 1]
    return head[: head.rfind(". ") + 1] or head


def _within(window: Window, duration: float) -> Window:
    return Window(min(window.start, duration), min(window.end, duration))


def _look(
    recording: Recording, question: str, window: Window, turn: str, store: FrameStore, budget: ToolBudget
) -> WarmUpExample:
    seconds = crop_seconds(window, store.video(recording.path).fps, budget)
    return _example(recording, question, seconds, budget.crop_pixels, window.end, turn)


def _example(
    recording: Recording, question: str, seconds: Sequence[float], max_pixels: int, end: float, turn: str
) -> WarmUpExample:
    return WarmUpExample(
        video=recording.video,
        path=recording.path,
        question=question,
        seconds=tuple(seconds),
        max_pixels=max_pixels,
        end=end,
        turn=turn,
        collection=recording.collection,
    )
