"""The scripted teacher: it sees only the ground-truth timeline and the seconds of the skim, and writes like the policy.

Its windows are those of a cautious surgeon: both edges lie on skim seconds and often one further out than needed. That
slack is deliberate head-room for reinforcement learning, and the README says so.
"""

import numpy as np

from medscope.environment.dialogue import call_text, window_text
from medscope.records import Task, Recording, Window
from medscope.suite.captions import describe, storyline


class Teacher:
    """Writes the turns of one question about a skim at `seconds` (whole seconds) that ends at `end` (s).

    `boundary_slack` is the chance, for each side of a window, of one more skim second of slack. `time_offset` is added to all
    seconds: an excerpt may carry a time_offset of its own.
    """

    def __init__(
        self,
        recording: Recording,
        question: Task,
        seconds: list[int],
        end: float,
        boundary_slack: float,
        seed: list[int],
        time_offset: int = 0,
    ):
        self.question = question
        self.segment = next(s for s in recording.segments if s.phase == question.phase)
        self.story = [(phase, second + time_offset) for phase, second in storyline(recording, seconds, end)]
        self.anchors = [second + time_offset for second in (*seconds, round(end))]
        self.boundary_slack = boundary_slack
        self.rng = np.random.default_rng(seed)

    def hypothesis(self) -> Window | None:
        """First skim second at which the queried phase is seen, and that of what follows; None if it never is."""
        for (phase, start), (_, end) in zip(self.story, self.story[1:], strict=False):
            if phase == self.question.phase:
                return Window(start, end)
        return None

    def thought(self, plan: str) -> str:
        """The storyline thought of this question; for a moment, the hypothesis is one second."""
        seen = self.hypothesis()
        return storyline_thought(self.question.phase, self.story, seen, plan, self.segment.moment is not None)

    def window(self) -> Window:
        """The window to crop, edges on seconds that the skim has shown; around a moment at least one to each side."""
        seen = self.hypothesis()
        if self.segment.moment is not None:
            return widened(Window(seen.start, seen.start), self.anchors, 1, self.boundary_slack, self.rng)
        return widened(seen, self.anchors, 0, self.boundary_slack, self.rng)

    def turns(self) -> list[str]:
        """The turns with tools: storyline, hypothesis, crop, (for a moment: one frame,) what is seen, the answer."""
        window = self.window()
        crop = call_text("crop_video", {"start_time": window.start, "end_time": window.end})
        turns = [self.thought("look") + crop]
        if self.segment.moment is not None:
            frame = call_text("get_frame", {"timestamp": self.segment.moment})
            turns.append(f"<think>{self.question.phase} {self.segment.moment:g} | look</think>{frame}")
        return [*turns, self.dense_turn(window)]

    def dense_turn(self, window: Window) -> str:
        """The last turn after a dense look: what was seen, then the answer; a grounding answer is the window itself."""
        answer = window_text(window) if self.question.kind == "grounding" else self.question.answer
        return f"<think>{describe(self.segment)}</think><answer>{answer}</answer>"

    def direct_turn(self) -> str:
        """The only turn without tools: the storyline, then the answer that the skim suggests (a guess for details).

        It is as cautious as the window of a crop: with or without tools, the teacher is the same.
        """
        answer = window_text(self.window()) if self.question.kind == "grounding" else self.question.answer
        return self.thought("answer") + f"<answer>{answer}</answer>"


def widened(seen: Window, anchors: list[int], margin: int, boundary_slack: float, rng: np.random.Generator) -> Window:
    """`seen`, edges on `anchors`, moved out by `margin` anchors and with chance `boundary_slack` by one more on each side."""
    first, last = anchors.index(seen.start), anchors.index(seen.end)
    first, last = first - margin - (rng.random() < boundary_slack), last + margin + (rng.random() < boundary_slack)
    return Window(anchors[max(first, 0)], anchors[min(last, len(anchors) - 1)])


def storyline_thought(
    phase: str, story: list[tuple[str, int]], seen: Window, plan: str, is_moment: bool = False
) -> str:
    """`find X | A 0 B 21 X 34 C 64 end 150 | X 34 64 | look`: the skim with its time anchors, then a hypothesis."""
    told = " ".join(f"{name} {second}" for name, second in story)
    hypothesis = f"{phase} {seen.start:g}" if is_moment else f"{phase} {seen.start:g} {seen.end:g}"
    return f"<think>find {phase} | {told} | {hypothesis} | {plan}</think>"
