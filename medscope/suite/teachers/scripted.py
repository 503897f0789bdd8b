"""The scripted teacher: it has the ground-truth timeline and the seconds of the skim, and writes like the policy.

Its windows are cautious: both edges lie on skim seconds and often one further out than needed. That slack is deliberate
head-room for reinforcement learning. It is an `Agent`: what it says after a look depends on the frames that it was
shown. It names details only if one of them lies inside the interval.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from medscope.environment.grammar import call_text, window_text
from medscope.metrics import evidence_window
from medscope.records import Interval, Recording, Task, Text, Window
from medscope.sources.source import describe

UNSEEN = "not seen"  # the answer about a detail that no look has shown
WHOLE = "all"  # what a thought looks for where the question asks for the whole recording


class ScriptedTeacher:
    """Answers one task about a skim at `seconds` (whole seconds) that ends at `end` (s).

    `boundary_slack` is the chance, for each side of a window, of one more skim second of slack. `describe` puts an
    interval into words. `time_offset` (s) is added to all seconds: an excerpt may count on a clock of its own. Without
    `tools` it answers from the skim.
    """

    def __init__(
        self,
        task: Task,
        recording: Recording,
        seconds: Sequence[int],
        end: float,
        boundary_slack: float,
        rng: np.random.Generator,
        describe: Callable[[Interval], str] = describe,
        time_offset: int = 0,
        tools: bool = True,
    ):
        self.task = task
        self.interval = next((i for i in recording.intervals if i.label == task.subject), None)
        self.story = [(label, second + time_offset) for label, second in storyline(recording, seconds, end)]
        self.anchors = [second + time_offset for second in (*seconds, round(end))]
        self.boundary_slack = boundary_slack
        self.rng = rng
        self.describe = describe
        self.tools = tools
        self.cropped: Window | None = None

    @property
    def at_instant(self) -> bool:
        """Whether the task's label is annotated by an instant, not by a window."""
        return self.interval is not None and self.interval.timestamp is not None

    def hypothesis(self) -> Window | None:
        """First skim second at which the subject is seen, and that of what follows; None if it never is.

        A task without a subject asks for the whole recording.
        """
        if not self.task.subject:
            return Window(self.anchors[0], self.anchors[-1])
        for (label, start), (_, end) in zip(self.story, self.story[1:], strict=False):
            if label == self.task.subject:
                return Window(start, end)
        return None

    def thought(self, plan: str) -> str:
        """The thought before a look or an answer. A subject that the skim does not show stands at its evidence."""
        seen = self.hypothesis() or evidence_window(self.task.evidence)
        return skim_thought(self.task.subject or WHOLE, self.story, seen, plan, self.at_instant)

    def window(self) -> Window:
        """The window to crop, edges on seconds that the skim has shown; around an instant at least one to each side."""
        seen = self.hypothesis()
        if self.at_instant:
            return widened(Window(seen.start, seen.start), self.anchors, 1, self.boundary_slack, self.rng)
        return widened(seen, self.anchors, 0, self.boundary_slack, self.rng)

    def next_turn(self, messages: list[dict[str, Any]]) -> str:
        """With tools: a crop, for an instant one frame, then the answer. It reads only which seconds were shown."""
        responses = [message["content"] for message in messages if message["role"] == "tool"]
        if not responses:
            return self.opening_turn()
        if len(responses) == 1 and self.at_instant:
            frame = call_text("get_frame", {"timestamp": self.interval.timestamp})
            return f"<think>{self.task.subject} {self.interval.timestamp:g} | look</think>{frame}"
        seen = [block["second"] for response in responses for block in response if "second" in block]
        return self.dense_turn(self.cropped, seen)

    def opening_turn(self) -> str:
        """The first turn: a look where the task needs one, else the answer from the skim."""
        if not self.tools or not self.task.challenging:
            return self.direct_turn()
        if self.task.kind == "fine":  # the question names the window
            self.cropped = self.task.evidence
            thought = f"<think>find {self.cropped.start:g} {self.cropped.end:g} | look</think>"
        else:
            self.cropped = self.window()
            thought = self.thought("look")
        return thought + call_text("crop_video", {"start_time": self.cropped.start, "end_time": self.cropped.end})

    def dense_turn(self, window: Window, seen: Sequence[float]) -> str:
        """The last turn after a look at `window` that showed the seconds `seen`: what was seen, then the answer."""
        shows = any(self.interval.window.contains(second) for second in seen)
        told = self.describe(self.interval) if shows else self.interval.label
        known = shows or isinstance(self.task.reference, Window)  # the label itself shows all the time
        return f"<think>{told}</think><answer>{self._answer(window) if known else UNSEEN}</answer>"

    def direct_turn(self) -> str:
        """The only turn without a look: the storyline, then the answer that the skim suggests (a guess for details).

        It is as cautious as the window of a crop: with or without tools, the teacher is the same.
        """
        answer = self._answer(self.window() if isinstance(self.task.reference, Window) else None)
        return self.thought("answer") + f"<answer>{answer}</answer>"

    def _answer(self, window: Window | None) -> str:
        """The answer in words; to a question for a window, the teacher's own."""
        return self.task.reference.text if isinstance(self.task.reference, Text) else window_text(window)


def storyline(recording: Recording, seconds: Sequence[int], end: float) -> list[tuple[str, int]]:
    """What a skim at `seconds` tells: (label, first second at which it is seen) in order, then ("end", end).

    A skim that misses an interval does not tell it.
    """
    told: list[tuple[str, int]] = []
    for second in seconds:
        for interval in recording.intervals:
            seen = interval.window.start <= second < interval.window.end
            if seen and all(label != interval.label for label, _ in told):
                told.append((interval.label, second))
    return [*told, ("end", round(end))]


def skim_thought(
    label: str, story: Sequence[tuple[str, int]], seen: Window, plan: str, at_instant: bool = False
) -> str:
    """`find X | A 0 B 21 X 34 C 64 end 150 | X 34 64 | look`: the skim with its time anchors, then a hypothesis."""
    told = " ".join(f"{name} {second}" for name, second in story)
    hypothesis = f"{label} {seen.start:g}" if at_instant else f"{label} {seen.start:g} {seen.end:g}"
    return f"<think>find {label} | {told} | {hypothesis} | {plan}</think>"


def widened(
    seen: Window, anchors: Sequence[int], margin: int, boundary_slack: float, rng: np.random.Generator
) -> Window:
    """`seen` with each edge moved out by `margin` anchors, and by one more with chance `boundary_slack`."""
    first, last = anchors.index(seen.start), anchors.index(seen.end)
    first, last = first - margin - (rng.random() < boundary_slack), last + margin + (rng.random() < boundary_slack)
    return Window(anchors[max(first, 0)], anchors[min(last, len(anchors) - 1)])
