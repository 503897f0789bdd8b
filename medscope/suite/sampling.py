"""Which tasks of many are taken: kinds take turns, in a kind its answers, in an answer the videos.

So a rare kind counts as much as a frequent one, and who gives each question the most frequent answer of its kind is
right no more often than by chance. The first tasks that are taken do not depend on how many follow: the tasks of a
smaller sample are among those of a larger one.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from medscope.records import Task, Text


def in_turns(tasks: Sequence[Task], most: int | None = None, per_video: int | None = None) -> list[Task]:
    """At most `most` of the tasks and at most `per_video` of one video (None: any number), in their order.

    All windows and instants are one answer. Of tasks that are equal in all this the first one is next.
    """
    limit = len(tasks) if most is None else most
    room = len(tasks) if per_video is None else per_video
    kinds: dict[str, list[int]] = {}
    for number, task in enumerate(tasks):
        kinds.setdefault(task.kind, []).append(number)
    taken: list[int] = []
    of_video: Counter[str] = Counter()
    of_answer: Counter[tuple[str, str]] = Counter()
    waiting = [kinds[kind] for kind in sorted(kinds)]
    while waiting and len(taken) < limit:
        numbers = [number for number in waiting.pop(0) if of_video[tasks[number].video] < room]
        if not numbers:
            continue
        chosen = min(numbers, key=lambda n: (of_answer[_answer(tasks[n])], of_video[tasks[n].video], n))
        numbers.remove(chosen)
        taken.append(chosen)
        of_video[tasks[chosen].video] += 1
        of_answer[_answer(tasks[chosen])] += 1
        waiting.append(numbers)
    return [tasks[number] for number in sorted(taken)]


def _answer(task: Task) -> tuple[str, str]:
    """The kind and the answer of a task."""
    return task.kind, task.reference.text if isinstance(task.reference, Text) else ""


def sample_tasks(tasks: Sequence[Task], split: str, most: int, seed: int) -> list[Task]:
    """At most `most` tasks per video of a split: many videos teach more than many questions about each."""
    found = [task for task in tasks if task.split == split]
    order = np.random.default_rng([seed, 6]).permutation(len(found))
    chosen = {task.id for task in in_turns([found[i] for i in order], per_video=most)}
    return [task for task in found if task.id in chosen]
