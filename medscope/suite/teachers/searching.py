"""The searching teacher: it looks, tells what the look showed, and decides from that where to look next.

It is an `Agent`. It knows the annotation, but says of it only what the frames that it was shown can show (but for
`early_stop`). It goes from coarse to fine: the stretches of the skim in which the answer may lie, one after the other;
inside them the steps; then it zooms in on what it found until the frames are a second apart. An attribute takes one
frame at high resolution.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from medscope.environment.grammar import call_text, window_text
from medscope.environment.tools import ToolBudget, skim_seconds
from medscope.records import Recording, Task, Text, Window
from medscope.suite.nested_tasks import CHOOSE, EVENT, FIRST, LEVEL, NONE, WHICH
from medscope.suite.tasks import GROUNDING
from medscope.suite.teachers.thoughts import (
    HIDES,
    Place,
    Run,
    going_on,
    numbers,
    place,
    runs,
    story,
    think,
    told,
    wider,
)

SEEN, UNSEEN = "seen", "not seen"  # the verdict on a look; the second is also the answer about what none has shown
SWAP = "swap"  # the thought about a call whose end lies before its start
SPENT = "used"  # the thought about a call that is one too many
DENSE = 1.5  # seconds between frames; closer looks show nothing new
MISTHOUGHT = 0.5  # share of the mistaken calls whose thought is wrong already
CLOSER = 0.6  # a closer look takes at most this share of the one before; it is not worth a call otherwise

Looks = Generator[str, list[float], Any]  # yields turns, receives the seconds that were shown (none: refused)


class SearchingTeacher:
    """Answers one task. `early_stop` is head-room for reinforcement learning: the chance that a closer look has a frame
    too many on a side, that it is taken for the last one, that an attribute is given, rightly, without the frame that
    would show it.
    `mistakes` is the chance that a call is written wrongly first, is refused and corrected. A call that is refused
    though it is right is one too many: the teacher answers with what it has seen.
    """

    def __init__(
        self,
        task: Task,
        recording: Recording,
        budget: ToolBudget,
        rng: np.random.Generator,
        early_stop: float = 0.0,
        mistakes: float = 0.0,
        tools: bool = True,
    ):
        self.task, self.recording, self.budget, self.rng = task, recording, budget, rng
        self.early_stop, self.mistakes, self.tools = early_stop, mistakes, tools
        self.skim = runs(recording, skim_seconds(recording.duration, budget.skim_frames), innermost=False)
        self.calls = 0
        self.most_crops = budget.max_calls - self._about_attribute  # one call is for the frame
        self.turns = self._direct() if not tools or not task.challenging else self._plan()
        self.opened = False

    def next_turn(self, messages: list[dict[str, Any]]) -> str:
        """The next turn. It reads only which seconds the last response showed."""
        if not self.opened:
            self.opened = True
            return next(self.turns)
        return self.turns.send([block["second"] for block in messages[-1]["content"] if "second" in block])

    @property
    def candidates(self) -> list[Place]:
        """Where the skim shows the label that the question names, in order."""
        label = self.task.within or self.task.subject
        return [place(self.skim, number, self.recording.duration) for number in numbers(self.skim, [label])]

    @property
    def _skimmed(self) -> str:
        return story(self.skim, self.recording.duration)

    def _think(self, shown: str, *then: str | Place) -> str:
        """A thought: what was shown, the question in a few words, of a look that searches the verdict, then what to do
        (`look`, `frame`, `answer`) and where. Where the question stood only in the prompt, some looks earlier, a small
        model had forgotten its kind; without a verdict it went on although it had seen what was asked, or answered
        although it had not. The act stands before the place: a greedy choice between an act and the many numbers of a
        place would be one between a word and a number, which is rarely sure."""
        task = self.task
        asked = " ".join(filter(None, (task.kind, task.within, task.subject, *task.options)))
        return think(shown, asked, *map(str, then))

    def _direct(self) -> Looks:
        """The only turn without a look: the answer that the skim suggests, a guess for what only looks show."""
        if not self.candidates:
            yield self._think(self._skimmed, "answer") + _answer(UNSEEN)
            return
        at = self.candidates[0]
        reference = self.task.reference
        text = reference.text if isinstance(reference, Text) else window_text(at.inner)
        yield self._think(self._skimmed, "answer", at) + _answer(text)

    def _plan(self) -> Looks:
        if self.task.kind == GROUNDING:
            yield from self._locate()
        else:
            yield from self._find()

    def _locate(self) -> Looks:
        """Look at a label of the skim with both of its edges, and answer where it was seen."""
        at = self.candidates[0]
        seconds = yield from self._look(self._skimmed, [], at)
        found = runs(self.recording, seconds, innermost=False)
        number = next(numbers(found, [at.label]), None)
        if number is None:
            yield self._think(told(found) if seconds else SPENT, "answer") + _answer(UNSEEN)
        else:
            at = place(found, number, at.after)
            yield self._think(told(found), "answer", at) + _answer(window_text(at.inner))

    def _find(self) -> Looks:
        """Look for what the question asks in candidate after candidate, then in their steps; zoom in; answer."""
        sought = self.task.options or (self.task.subject,)
        said, verdict, found, number = self._skimmed, [], [], None
        where, others = self.candidates, self.candidates[1:]
        steps: list[Place] = []
        closest = False
        while where and number is None and self.calls < self.most_crops:
            at = where.pop(0)
            seconds = yield from self._look(said, verdict, at, *others)
            if not seconds:
                said = SPENT
                break
            others = []
            found = runs(self.recording, seconds, innermost=True)
            said, number = told(found), self._first(found, sought)
            verdict = [UNSEEN if number is None else SEEN]
            if number is None and not closest and _gap(seconds) >= self._shortest:
                steps += [place(found, n, at.after) for n, run in enumerate(found) if not _hides(self.recording, run)]
            if not where and not closest and self.task.kind != WHICH:  # the edges of a phase are not in its steps
                where, closest = steps, True
        if number is None:
            yield self._think(said, *verdict, "answer") + _answer(NONE if self.task.kind == CHOOSE else UNSEEN)
        elif self.task.kind == WHICH:
            yield self._name(said, seconds, found[number].first, at)
        else:
            yield from self._zoom(said, found, number, sought, seconds, at.outer)

    def _name(self, said: str, seconds: list[float], second: float, candidate: Place) -> str:
        """The answer that is the candidate of which the look has shown an event at `second`: the same frames are told
        once more, by the labels of the skim, for its edges. Where these stood only in an earlier turn, a small model
        named other seconds."""
        found = runs(self.recording, seconds, innermost=False)
        holds = (n for n in numbers(found, [candidate.label]) if found[n].first <= second <= found[n].last)
        if (number := next(holds, None)) is None:
            return self._think(said, SEEN, "answer") + _answer(UNSEEN)
        at = place(found, number, candidate.after)
        return self._think(said, SEEN, told(found), "answer", at) + _answer(window_text(at.inner))

    def _zoom(
        self,
        said: str,
        found: list[Run],
        number: int,
        sought: Sequence[str],
        seconds: list[float],
        looked: Window,
    ) -> Looks:
        """Closer looks until the frames are a second apart, then one frame where an attribute is asked for."""
        attribute = self.task.kind if self._about_attribute else None
        while _gap(seconds) > DENSE and self.calls < self.most_crops:
            at = self._extent(found, number, sought)
            if at.outer.length > CLOSER * looked.length:
                break
            at = wider(at, seconds, self._happens(self.early_stop), self._happens(self.early_stop))
            closer = yield from self._look(said, [SEEN], at)
            if not closer:
                yield self._conclude(SPENT, found, number)
                return
            seen = runs(self.recording, closer, innermost=True)
            if (again := self._first(seen, sought)) is None:
                break
            seconds, found, number, looked = closer, seen, again, at.outer
            said = told(found)
            if self._happens(self.early_stop):
                break
        if attribute is not None and not self._happens(self.early_stop):
            yield from self._read(said, found, number, attribute)
        else:
            yield self._conclude(said, found, number)

    def _conclude(self, said: str, found: list[Run], number: int) -> str:
        """The answer that a look has shown: where it was seen, or what. An attribute, which no frame has shown yet, is
        given rightly where the teacher stops early at times, and not where the frame was refused."""
        label, reference = found[number].label, self.task.reference
        if isinstance(reference, Window):
            at = place(found, number)
            return self._think(said, SEEN, "answer", at) + _answer(window_text(at.inner))
        if self._about_attribute and isinstance(reference, Text):
            label = reference.text if self.early_stop and said != SPENT else UNSEEN
        return self._think(said, SEEN, "answer", label) + _answer(label)

    def _read(self, said: str, found: list[Run], number: int, attribute: str) -> Looks:
        """One frame at high resolution, and what it shows of the attribute."""
        self.calls += 1
        run = found[number]
        frame = yield self._think(said, SEEN, "frame", f"{run.label} {run.first:g}") + call_text(
            "get_frame", {"timestamp": run.first}
        )
        if not frame:
            yield self._conclude(SPENT, found, number)
            return
        shown = [i for second in frame for i in going_on(self.recording, second) if i.label == run.label]
        details = {name: value for name, value in shown[0].attributes.items() if name != LEVEL} if shown else {}
        yield self._think(" ".join(details.values()), "answer") + _answer(details.get(attribute, UNSEEN))

    def _happens(self, chance: float) -> bool:
        return self.rng.random() < chance

    def _first(self, found: Sequence[Run], sought: Sequence[str]) -> int | None:
        """The number of the first run that shows what is sought; for an order, only where two of it are seen."""
        at = list(numbers(found, sought))
        if self.task.kind == FIRST and len({found[number].label for number in at}) < 2:
            return None
        return at[0] if at else None

    def _extent(self, found: Sequence[Run], number: int, sought: Sequence[str]) -> Place:
        """What a closer look shows: the run with both edges; for an order, all that is sought."""
        return place(found, number, last=list(numbers(found, sought))[-1] if self.task.kind == FIRST else number)

    @property
    def _about_attribute(self) -> bool:
        return any(self.task.kind in interval.attributes for interval in self.recording.intervals)

    @property
    def _shortest(self) -> float:
        """Length of the shortest event: a look whose frames are closer cannot miss one."""
        events = [i for i in self.recording.intervals if i.attributes.get(LEVEL) == EVENT]
        return min((event.window.length for event in events), default=0.0)

    def _look(self, said: str, verdict: Sequence[str], *places: Place) -> Looks:
        """One crop with both edges of the first place. A mistaken call swaps its ends, in half of the cases its thought
        does, too; it is refused and then written well."""
        at, window = places[0], places[0].outer
        if self.rng.random() < self.mistakes and self.calls + 1 < self.most_crops:
            self.calls += 1
            wrong = replace(at, before=at.after, after=at.before) if self.rng.random() < MISTHOUGHT else at
            yield self._think(said, *verdict, "look", wrong) + _crop(window.end, window.start)
            said, verdict = SWAP, []
        self.calls += 1
        return (yield self._think(said, *verdict, "look", *places) + _crop(window.start, window.end))


def _crop(start: float, end: float) -> str:
    return call_text("crop_video", {"start_time": start, "end_time": end})


def _answer(text: str) -> str:
    return f"<answer>{text}</answer>"


def _gap(seconds: Sequence[float]) -> float:
    """Most seconds between two frames of a look."""
    return float(max(np.diff(seconds), default=0.0))


def _hides(recording: Recording, run: Run) -> bool:
    return any(i.label == run.label and i.attributes.get("level") == HIDES for i in recording.intervals)
