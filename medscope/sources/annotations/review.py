"""Evidence of tasks out to a review tool, and the corrections in again. Tasks are matched by their id."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from medscope.records import Evidence, Task, Timestamp, Window
from medscope.sources.annotations.annotation import Annotation

INSTANT = 0.001  # s that an instant lasts in a format that knows only stretches


def evidence_annotations(tasks: Iterable[Task]) -> list[Annotation]:
    """The evidence of tasks as stretches for the writers: labelled with the question, with the id of the task."""
    stretches = []
    for task in tasks:
        start, end = _bounds(task.evidence)
        stretches.append(Annotation(task.video, start, end, task.question, f"task {task.id}", id=task.id))
    return stretches


def corrected(
    tasks: Sequence[Task], annotations: Iterable[Annotation], fps: Mapping[str, float]
) -> tuple[list[Task], list[str]]:
    """The tasks with the evidence that a reviewer has left, and the ids of those whose stretch was deleted.

    `fps` by video turns frames into seconds. A stretch that moved less than the format can tell (one frame, one
    millisecond) leaves its evidence as it was. A reference that is the evidence moves with it. Raises ValueError for a
    task with several stretches, one that ends before it starts, and an id that is of no task.
    """
    found: dict[str, list[Annotation]] = defaultdict(list)
    for annotation in annotations:
        found[annotation.id].append(annotation)
    if unknown := sorted(set(found) - {task.id for task in tasks}):
        raise ValueError(f"the stretch {found[unknown[0]][0].label!r} has the id {unknown[0]!r}, which is of no task")
    kept = [_moved(task, found[task.id], fps) for task in tasks if task.id in found]
    return kept, [task.id for task in tasks if task.id not in found]


def _bounds(evidence: Evidence) -> tuple[float, float]:
    if isinstance(evidence, Timestamp):
        return evidence.time, evidence.time + INSTANT
    return evidence.start, max(evidence.end, evidence.start + INSTANT)


def _moved(task: Task, stretches: list[Annotation], fps: Mapping[str, float]) -> Task:
    if len(stretches) > 1:
        raise ValueError(f"the task {task.id} has {len(stretches)} stretches; evidence is one window: join them")
    stretch = stretches[0]
    rate = fps[task.video] if stretch.frames else 1.0
    start, end = stretch.start / rate, (stretch.start if stretch.end is None else stretch.end) / rate
    if not 0 <= start <= end:
        raise ValueError(f"the stretch of the task {task.id} goes from {start:g} to {end:g} s; mend its ends")
    precision = 1.01 / rate if stretch.frames else 1.01 * INSTANT
    if all(abs(new - old) <= precision for new, old in zip((start, end), _bounds(task.evidence), strict=True)):
        return task
    instant = isinstance(task.evidence, Timestamp)
    evidence = Timestamp((start + end) / 2) if instant else Window(start, end)
    return replace(task, evidence=evidence, reference=evidence if task.reference == task.evidence else task.reference)
