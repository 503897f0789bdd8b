"""The embedded data: procedures drawn by a program and written as real H.264 files. All times are seconds.

What the world asks of a model: the *phase* colours large regions, so a skim of a few 28 px frames shows it. The
*details* (instrument tip, complication) are drawn only within `Scene.shown`, which lies between the skim's frames:
only a second, denser look finds them. Phase, instrument and complication are independent, so text alone tells nothing.
"""

import math
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path

import av
import numpy as np

from medscope.environment.tools import skim_seconds
from medscope.records import Domain, Recording, Split, Window
from medscope.sources.rendered.drawing import FRAME_PIXELS, draw
from medscope.sources.rendered.looks import ABDOMEN_LOOKS, EVENTS, EYE_LOOKS
from medscope.sources.rendered.scene import Scene, shown_in


@dataclass(frozen=True)
class Family:
    """What one kind of video is made of.

    `seconds` and `scenes` are least and most; `gap`: least seconds between two skim frames, to hide the details in;
    `timestamps`: its scenes are events around an instant, not phases that tile the video.
    """

    phases: tuple[str, ...]
    instruments: tuple[str, ...]
    complications: tuple[str, ...]
    seconds: tuple[int, int]
    fps: int
    scenes: tuple[int, int]
    least_phase: int = 8
    gap: int = 3
    timestamps: bool = False


_LAPAROSCOPY = Family(
    phases=tuple(ABDOMEN_LOOKS),
    instruments=("grasper", "scissors", "clipper", "suction", "cautery"),
    complications=("hemorrhage", "leak", "smoke", "burn", "perforation"),
    seconds=(60, 300),
    fps=1,
    scenes=(3, 7),
)
FAMILIES: dict[str, Family] = {
    "cataract": Family(
        phases=tuple(EYE_LOOKS),
        instruments=("forceps", "blade", "cannula", "probe", "hook"),
        complications=("bleeding", "bubbles", "prolapse", "tear", "edema"),
        seconds=(60, 240),
        fps=1,
        scenes=(3, 8),
    ),
    "clips": Family(
        phases=tuple(EVENTS),
        instruments=("snare", "brush", "needle", "basket", "loop"),
        complications=(),
        seconds=(6, 10),
        fps=4,
        scenes=(2, 3),
        least_phase=2,
        gap=1,
        timestamps=True,
    ),
    "laparoscopy": _LAPAROSCOPY,
    "laparoscopy_clips": replace(_LAPAROSCOPY, seconds=(10, 20), fps=2, scenes=(2, 2), least_phase=4, gap=1),
}


def sample_recording(
    family: str,
    video: str,
    split: Split,
    path: str | Path,
    skim_frames: int,
    rng: np.random.Generator,
    domain: Domain = "in",
) -> Recording:
    """Draw the ground truth of one video: what happens when, and in which seconds a skim cannot see the details.

    Raises ValueError where a skim of `skim_frames` leaves no room to hide them.
    """
    kind = FAMILIES[family]

    def least(duration: int) -> int:
        # Longer than the gaps of the skim, so that a skim frame falls into every phase.
        return max(kind.least_phase, math.ceil(1.6 * duration / skim_frames))

    def fits(duration: int) -> bool:
        return duration / min(skim_frames, duration) >= kind.gap and duration // least(duration) >= kind.scenes[0]

    durations = [seconds for seconds in range(kind.seconds[0], kind.seconds[1] + 1) if fits(seconds)]
    if not durations:
        raise ValueError(f"a skim of {skim_frames} frames is too coarse or too fine for every length of {family} video")
    duration = int(rng.choice(durations))
    skim = skim_seconds(duration, skim_frames)
    count = int(rng.integers(kind.scenes[0], min(kind.scenes[1], duration // least(duration)) + 1))
    if kind.timestamps:
        names = rng.permutation(kind.phases)[:count]
        timestamps = _timestamps(skim, duration, count, rng)
        windows = [Window(t - 0.75, t + 0.75) for t in timestamps]
        shown = [(Window(t - 0.6, t - 0.2), Window(t + 0.2, t + 0.6)) for t in timestamps]
    else:
        names = _mostly_ordered(kind.phases, count, rng)
        timestamps = [None] * count
        windows = _tiles(duration, count, least(duration), rng)
        shown = [_between(window, skim, kind.gap) for window in windows]
    scenes = (
        Scene(window, str(name), _details(kind, rng), timestamp, stretches)
        for window, name, stretches, timestamp in zip(windows, names, shown, timestamps, strict=True)
    )
    return Recording(
        video=video,
        path=str(path),
        duration=duration,
        intervals=tuple(scenes),
        collection=family,
        domain=domain,
        split=split,
        group=video,
    )


def _details(kind: Family, rng: np.random.Generator) -> dict[str, str]:
    details = {"instrument": str(rng.choice(kind.instruments))}
    if kind.complications:
        details["complication"] = str(rng.choice(kind.complications))
    return details


def _timestamps(skim: list[int], duration: int, count: int, rng: np.random.Generator) -> list[int]:
    """Seconds that the skim sees, 3 s apart where the clip is long enough, else 2 s."""
    inner = [second for second in skim if 1 <= second <= duration - 1]
    for apart in (3, 2):
        choices = [some for some in combinations(inner, count) if all(b - a >= apart for a, b in pairwise(some))]
        if choices:
            return list(choices[rng.integers(len(choices))])
    raise ValueError(f"a skim of {len(skim)} frames is too coarse for {count} events in {duration} s")


def _mostly_ordered(phases: tuple[str, ...], count: int, rng: np.random.Generator) -> list[str]:
    chosen = [phases[i] for i in sorted(rng.permutation(len(phases))[:count])]
    if rng.random() < 0.25:
        i = int(rng.integers(count - 1))
        chosen[i], chosen[i + 1] = chosen[i + 1], chosen[i]
    return chosen


def _tiles(duration: int, count: int, least: int, rng: np.random.Generator) -> list[Window]:
    cuts = sorted(rng.integers(0, duration - count * least + 1, count - 1))
    bounds = [0, *(int(cut) + (i + 1) * least for i, cut in enumerate(cuts)), duration]
    return [Window(start, end) for start, end in pairwise(bounds)]


def _between(window: Window, skim: list[int], gap: int) -> tuple[Window, ...]:
    """The stretches of `window` that lie between skim frames, with a margin to both sides."""
    margin = min(0.5, gap / 4)
    stretches = (
        (max(before + margin, window.start + 0.25), min(after - margin, window.end - 0.25))
        for before, after in pairwise([*skim, math.inf])
    )
    return tuple(Window(start, end) for start, end in stretches if end - start >= gap / 2)


def write_video(recording: Recording, skim_frames: int) -> None:
    """Write `recording.path` as H.264, whole or not at all. The same recording gives the same bytes."""
    skim = skim_seconds(recording.duration, skim_frames)
    if any(stretch.contains(second) for s in recording.intervals for stretch in shown_in(s) for second in skim):
        raise ValueError(f"{recording.video}: a skim of {skim_frames} frames would see its details")
    fps = FAMILIES[recording.collection].fps
    path = Path(recording.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part.mp4")
    with av.open(str(temporary), "w") as container:
        # Same bytes every time: one thread, and none of the fast paths of x264 whose result varies from run to run.
        options = {"crf": "30", "preset": "veryfast", "g": "4", "threads": "1", "x264-params": "cpu-independent=1"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width = stream.height = FRAME_PIXELS
        stream.pix_fmt = "yuv420p"
        for index in range(round(recording.duration * fps)):
            frame = av.VideoFrame.from_ndarray(draw(recording, index / fps), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    temporary.replace(path)
