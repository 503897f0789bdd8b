"""Step 6: a question is kept if its evidence answers it and nothing else does.

The verifier answers from the window, from the rest of the video with the window cut out, and from nothing. A question
that it also answers from the coarse skim is easy; one that needs the dense look is challenging.
"""

import asyncio
from dataclasses import replace

import numpy as np
from pydantic.dataclasses import dataclass

from medscope.environment import FrameStore, ToolBudget, VideoError
from medscope.environment.environment import Blocks, show_frames
from medscope.environment.tools import skim_seconds
from medscope.metrics import evidence_window
from medscope.records import Task, Window
from medscope.suite.bulk import Rejected
from medscope.suite.tasks import too_long
from medscope.suite.teachers.endpoint.answers import RIGHT, AnswerReply, Grader, as_question
from medscope.suite.teachers.endpoint.captions import window_frames
from medscope.suite.teachers.endpoint.checks import draft_content
from medscope.suite.teachers.endpoint.prompts import load_prompt
from medscope.suite.teachers.endpoint.questions import Draft
from medscope.suite.teachers.endpoint.structured import BadReply, StructuredModel, content_key


@dataclass(frozen=True)
class Verified:
    """A draft that passed: the scores (0 to 1) of the answers from `window`, `rest`, `nothing` and `skim`."""

    scores: dict[str, float]

    def task(self, draft: Draft) -> Task:
        """The draft's task, which is challenging unless the skim answers it."""
        return replace(draft.task, challenging=self.scores["skim"] < RIGHT)


class VerificationStep:
    """Draft -> Verified. `look` says how many frames of which size the verifier gets of window, rest and skim."""

    name = "verification"

    def __init__(self, model: StructuredModel, store: FrameStore, look: ToolBudget):
        self.model, self.store, self.look = model, store, look
        self.prompt, self.grader = load_prompt("answer"), Grader(model)

    def key(self, draft: Draft) -> str:
        look = (self.look.crop_frames, self.look.crop_pixels, self.look.skim_frames, self.look.skim_pixels)
        return content_key(self.name, draft_content(draft), look, self.prompt.hash, self.grader.identity)

    async def __call__(self, draft: Draft) -> Verified | Rejected:
        if too_long(draft.task.evidence, draft.film.recording.duration):
            return Rejected("window too long")
        scores: dict[str, float] = {}
        try:
            for view in ("window", "rest", "nothing", "skim"):
                blocks = await asyncio.to_thread(self.frames, draft, view)
                reply = await self.model.ask(self.prompt, AnswerReply, as_question(draft), blocks, temperature=0.0)
                scores[view] = await self.grader.score(draft.task, reply.answer)
                if fault := verdict(view, scores[view]):
                    return Rejected(fault)
        except VideoError as error:
            return Rejected(f"the video cannot be read: {error}")
        except BadReply as error:
            return Rejected(str(error))
        return Verified(scores)

    def frames(self, draft: Draft, view: str) -> Blocks:
        """The frames of one view of the video, each followed by its second. Raises `VideoError`."""
        recording, window = draft.film.recording, evidence_window(draft.task.evidence)
        if view == "nothing":
            return []
        if view == "window":
            return window_frames(self.store, recording.path, window, self.look)
        if view == "skim":
            seconds = [float(second) for second in skim_seconds(recording.duration, self.look.skim_frames)]
            return show_frames(self.store, recording.path, seconds, self.look.skim_pixels)
        return show_frames(self.store, recording.path, self.rest(recording.path, window), self.look.crop_pixels)

    def rest(self, path: str, window: Window) -> list[float]:
        """Seconds of at most `crop_frames` frames, evenly spread, of which none lies in the window."""
        starts = self.store.video(path).starts
        outside = starts[(starts < window.start) | (starts > window.end)]
        if len(outside) == 0:
            raise VideoError(f"{path}: no frame lies outside of {window.start:g} to {window.end:g} s")
        picked = np.linspace(0, len(outside) - 1, min(len(outside), self.look.crop_frames)).round().astype(int)
        return [float(second) for second in outside[picked]]


def verdict(view: str, score: float) -> str:
    """Why a score from a view rejects the question; "" if it does not."""
    if view == "window" and score < RIGHT:
        return f"not answered from its window: score {score:.2f}, at least {RIGHT} is needed"
    if view == "rest" and score >= RIGHT:
        return f"answered from the rest of the video: score {score:.2f}"
    if view == "nothing" and score >= RIGHT:
        return f"answered from nothing: score {score:.2f}"
    return ""
