"""Replay right answers with other frames behind the tools (the evidence audit; `audit` makes the table).

The replay is greedy, as the first run was. Up to the first response both are the same rollout, so whatever changes
comes from the frames. (A hosted model may differ from itself: a second run of the same tasks says how often.)
"""

from collections.abc import Callable, Iterable, Sequence

from PIL import Image

from medscope.environment import ClinicalVideoEnvironment, FrameStore, ToolBudget
from medscope.environment.environment import Blocks
from medscope.evaluation.audit import SWAPS, Swap, replay_name
from medscope.evaluation.predictions import Prediction, by_set
from medscope.records import Recording, Task
from medscope.suite.suite import evenly

GREY = (128, 128, 128)
# (tasks, system=.., environment=..): `predict` of a policy, bound to all else, or of an `EndpointSystem`.
Answers = Callable[..., list[Prediction]]


class SwappedEnvironment(ClinicalVideoEnvironment):
    """Executes and records calls as ever, but shows other frames, or other seconds under the frames.

    `elsewhere`: half the video later (from its start again past its end); `other_video`: the same part of the video
    `other`; `blank`: grey frames; `labels`: the true frames, and under each the second of the frame half a look later
    (from the start again), so that every label is one that the look has. The skim is not swapped.
    """

    def __init__(self, store: FrameStore, budget: ToolBudget, swap: Swap, other: str):
        super().__init__(store, budget)
        self._swap, self._other = swap, other
        self.shows = f"{swap} {other if swap == 'other_video' else ''}"  # part of the key of an answer that was paid

    def _show(self, seconds: list[float], max_pixels: int) -> Blocks:
        blocks = super()._show(seconds, max_pixels)
        if self._swap == "labels":
            labels = [block for block in blocks if block["type"] == "text"]
            texts = [block["text"] for block in labels]
            for block, text in zip(labels, texts[len(texts) // 2 :] + texts[: len(texts) // 2], strict=True):
                block["text"] = text
            return blocks
        for block in blocks:
            if block["type"] == "image":
                block["image"] = self._swapped(block["image"].size, block["second"])
        return blocks

    def _swapped(self, size: tuple[int, int], second: float) -> Image.Image:
        """The frame to show in the place of one of this size at this second, under a feature key of its own."""
        if self._swap == "blank":
            grey = Image.new("RGB", size, GREY)
            grey.info["frame"] = ("blank", *size)
            return grey
        path, time = self.path, (second + self.duration / 2) % self.duration
        if self._swap == "other_video":
            path, time = self._other, second / self.duration * self.store.video(self._other).duration
        frame = self.store.frames(path, [time], size[0] * size[1])[0][0]
        if frame.size == size:
            return frame
        resized = frame.resize(size)
        resized.info["frame"] = (*frame.info["frame"], *size)  # another picture than the store's frame of that key
        return resized


def replay(
    answer: Answers,
    predictions: Sequence[Prediction],
    recordings: Iterable[Recording],
    store: FrameStore,
    budget: ToolBudget,
    most: int | None = None,
) -> list[Prediction]:
    """Replay at most `most` right answers per eval set (None: all) with every swap; `replay_name` is their system.

    Only answers after an executed call are replayed: without one no frame can be swapped. A task without a prediction
    under one of the swaps (an endpoint's reply in quarantine) is left out of all of them.
    """
    others = other_videos(recordings)
    replays: list[Prediction] = []
    for members in by_set(predictions).values():
        right = evenly([p for p in members if p.accuracy == 1 and p.looks], most)
        made: list[list[Prediction]] = []
        for swap in SWAPS if right else ():

            def environment(task: Task, swap: Swap = swap) -> ClinicalVideoEnvironment:
                return SwappedEnvironment(store, budget, swap, _other(others, task))

            name = replay_name(right[0].system, swap)
            made.append(answer([p.task for p in right], system=name, environment=environment))
        whole = set.intersection(*({p.task.id for p in some} for some in made)) if made else set()
        replays += [p for some in made for p in some if p.task.id in whole]
    return replays


def other_videos(recordings: Iterable[Recording]) -> dict[str, str]:
    """For every video the path of the next one of its collection and split; itself where it is the only one."""
    groups: dict[tuple[str, str | None], list[Recording]] = {}
    for recording in recordings:
        groups.setdefault((recording.collection, recording.split), []).append(recording)
    others: dict[str, str] = {}
    for members in groups.values():
        others |= {r.video: members[(i + 1) % len(members)].path for i, r in enumerate(members)}
    return others


def _other(others: dict[str, str], task: Task) -> str:
    if others[task.video] == task.path:
        raise ValueError(
            f"{task.video} is the only video of {task.collection} in its split: the audit has no other video to show; "
            "set audit_tasks to 0"
        )
    return others[task.video]
