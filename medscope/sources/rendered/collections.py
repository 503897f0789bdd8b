"""The collections of rendered procedures: which views, how long, what is withheld. `sample_recording` draws one."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from medscope.environment.tools import skim_seconds
from medscope.records import Domain, Interval, Recording, Split, Window
from medscope.sources.rendered.timeline import Rules, events_in, in_order, nested, step_labels, tiles
from medscope.sources.rendered.words import INSTRUMENTS, TRAINING_VIEWS, UNSEEN_VIEW

PHASE_OF_GAPS = 1.7  # gaps of the skim that a phase lasts at least, so that a frame of the skim falls into it
LEAST_GAP = 9  # seconds between two frames of the skim: room for an event of 6 s and margins
STEP_SECONDS, STEPS = (18, 50), 4
CLIP_STEP = 9  # seconds, at least


@dataclass(frozen=True)
class Profile:
    """One collection. `seconds` and `phases` are least and most; `longest_phase` in seconds.

    `withheld`: its events are those that training never shows, by their phase or by the phase of the view.
    """

    views: tuple[str, ...]
    seconds: tuple[int, int]
    domain: Domain = "in"
    withheld: bool = False
    kind: Literal["procedure", "clip"] = "procedure"
    phases: tuple[int, int] = (5, 9)
    longest_phase: int = 110


COLLECTIONS: dict[str, Profile] = {
    "procedures": Profile(TRAINING_VIEWS, (240, 480)),
    "clips": Profile(TRAINING_VIEWS, (12, 24), kind="clip", phases=(1, 1)),
    "composition": Profile(TRAINING_VIEWS, (240, 480), domain="out", withheld=True),
    "view": Profile((UNSEEN_VIEW,), (240, 480), domain="out"),
    "duration": Profile(TRAINING_VIEWS, (720, 1200), domain="out", phases=(6, 12), longest_phase=200),
}


def sample_recording(
    collection: str,
    video: str,
    split: Split,
    path: str | Path,
    skim_frames: int,
    rho: float,
    rng: np.random.Generator,
) -> Recording:
    """Draw the annotation of one video. The same arguments and state of `rng` give the same recording.

    `rho` is P(the preferred instrument of a phase | phase), 1 / 5 where the two are independent. Raises ValueError for
    an unknown collection, a rho outside of [0, 1], and a skim of so many or so few frames that nothing fits.
    """
    if collection not in COLLECTIONS:
        raise ValueError(f"collection {collection!r} is unknown; the rendered world has {', '.join(COLLECTIONS)}")
    if not 0 <= rho <= 1:
        raise ValueError(f"rho is {rho:g}; it is a probability (independent: {1 / len(INSTRUMENTS):g})")
    profile = COLLECTIONS[collection]
    view = str(rng.choice(profile.views))
    if profile.kind == "clip":
        duration = int(rng.integers(profile.seconds[0], profile.seconds[1] + 1))
        intervals = _clip(duration, _rules(profile, view, rho, least_phase=duration), rng)
    else:
        duration, least = _duration(collection, skim_frames, rng)
        intervals = nested(duration, skim_seconds(duration, skim_frames), _rules(profile, view, rho, least), rng)
    return Recording(
        video=video,
        path=str(path),
        duration=duration,
        intervals=intervals,
        collection=collection,
        domain=profile.domain,
        split=split,
        group=video,
    )


def view_of(recording: Recording) -> str:
    """What the camera looks at: every phase says it."""
    return recording.intervals[0].attributes["view"]


def _rules(profile: Profile, view: str, rho: float, least_phase: int) -> Rules:
    return Rules(
        view=view,
        withheld=profile.withheld,
        rho=rho,
        phases=profile.phases,
        phase_seconds=(least_phase, profile.longest_phase),
        steps=STEPS,
        step_seconds=STEP_SECONDS,
    )


def _duration(collection: str, skim_frames: int, rng: np.random.Generator) -> tuple[int, int]:
    """Seconds of a procedure, and the least of a phase, such that events hide and the phases show in the skim."""
    profile = COLLECTIONS[collection]

    def least_phase(duration: int) -> int:
        return max(STEP_SECONDS[0], math.ceil(PHASE_OF_GAPS * duration / skim_frames))

    def fits(duration: int) -> bool:
        fewest = max(profile.phases[0], math.ceil(duration / profile.longest_phase))
        return duration >= LEAST_GAP * skim_frames and fewest * least_phase(duration) <= duration

    durations = [d for d in range(profile.seconds[0], profile.seconds[1] + 1) if fits(d)]
    if not durations:
        raise ValueError(
            f"skim_frames {skim_frames} does not suit {collection} of {profile.seconds[0]} to {profile.seconds[1]} s: "
            f"a gap takes {LEAST_GAP} s or more, and {profile.phases[0]} phases of {PHASE_OF_GAPS} gaps must fit; "
            "use 16 to 32"
        )
    duration = int(rng.choice(durations))
    return duration, least_phase(duration)


def _clip(duration: int, rules: Rules, rng: np.random.Generator) -> tuple[Interval, ...]:
    """One phase with one or two events, each in its own step; the first second of an event stands for it."""
    wanted = int(rng.integers(1, min(2, duration // CLIP_STEP) + 1))
    label = str(rng.choice(rules.labels))
    windows = tiles(0, duration, wanted, (CLIP_STEP, duration), rng)
    steps = [Interval(w, s, {"level": "step"}) for w, s in zip(windows, step_labels(wanted, rng), strict=True)]
    events = [
        Interval(e.window, e.label, e.attributes, timestamp=e.window.start)
        for e in events_in(steps, label, wanted, (), rules, rng)
    ]
    phase = Interval(Window(0, duration), label, {"level": "phase", "view": rules.view})
    return in_order([phase, *steps, *events])
