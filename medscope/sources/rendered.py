"""The embedded data: procedures drawn by a program and written as real H.264 files. All times are seconds.

What the world asks of a model: the *phase* colours large regions, so a skim of a few 28 px frames shows it. The
*details* (instrument tip, complication) are drawn only within `Segment.shown`, which lies between the skim's frames:
only a second, denser look finds them. Phase, instrument and complication are independent, so text alone tells nothing.
"""

import math
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from itertools import combinations, pairwise
from multiprocessing import get_context
from pathlib import Path
from zlib import crc32

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from tqdm.auto import tqdm

from medscope.records import Recording, Segment, Split, Window
from medscope.tools import skim_seconds

FRAME_PIXELS = 112
CANVAS = 256  # scenes are painted at twice the size, with 16 px to spare on each side for the camera to drift
MIDDLE = complex(CANVAS / 2, CANVAS / 2)  # points of the canvas are complex numbers: x + y*1j, y downwards

Colour = tuple[int, int, int]
Look = tuple[Colour, Colour, str]
Mark = tuple[str, Colour, float, tuple[complex, ...]]  # area, line, disc or ring; colour; width or radius; points

GOLD, CYAN, VIOLET, GREEN, ORANGE = (255, 220, 20), (60, 225, 255), (160, 50, 245), (30, 205, 60), (255, 105, 0)
RED, WHITE, BLACK, BROWN, GREY = (225, 0, 20), (255, 255, 255), (16, 10, 14), (125, 72, 25), (150, 160, 178)
PALE, DARK = (225, 250, 240), (62, 48, 40)

# Instrument tips point along +x from the end of their shaft at 0; complications lie around 0. 1 is DETAIL pixels.
DETAIL = 84
DETAILS: dict[str, tuple[Mark, ...]] = {
    "forceps": (("line", GOLD, 0.17, (1 - 0.42j, 0.45 - 0.3j, 0, 0.45 + 0.3j, 1 + 0.42j)),),
    "blade": (("area", CYAN, 0, (-0.13j, 0.45 - 0.4j, 1, 0.45 + 0.4j, 0.13j)),),
    "cannula": (("line", VIOLET, 0.16, (0, 0.35)), ("ring", VIOLET, 0.34, (0.66,))),
    "probe": (("line", GREEN, 0.2, (0, 0.4)), ("disc", GREEN, 0.36, (0.62,))),
    "hook": (("line", ORANGE, 0.2, (-0.2j, 0.85 - 0.2j, 0.98 + 0.1j, 0.8 + 0.36j, 0.45 + 0.36j)),),
    "grasper": (
        ("area", GOLD, 0, (0, 0.3 - 0.44j, 1 - 0.36j, 0.4 - 0.1j)),
        ("area", GOLD, 0, (0, 0.3 + 0.44j, 1 + 0.36j, 0.4 + 0.1j)),
    ),
    "scissors": (("line", CYAN, 0.17, (-0.35j, 1 + 0.38j)), ("line", CYAN, 0.17, (0.35j, 1 - 0.38j))),
    "clipper": (("line", VIOLET, 0.2, (1 - 0.34j, 0.2 - 0.34j, 0.2 + 0.34j, 1 + 0.34j)),),
    "suction": (("line", GREEN, 0.42, (0, 1)), *(("disc", BLACK, 0.1, (x,)) for x in (0.25, 0.5, 0.75))),
    "cautery": (("line", ORANGE, 0.2, (0, 0.75)), ("line", ORANGE, 0.26, (0.85 - 0.45j, 0.85 + 0.45j))),
    "snare": (("ring", GOLD, 0.48, (0.52,)),),
    "brush": (
        ("line", CYAN, 0.14, (0, 1)),
        *(("line", CYAN, 0.1, (x - 0.36j, x + 0.36j)) for x in (0.25, 0.48, 0.71, 0.94)),
    ),
    "needle": (("area", VIOLET, 0, (-0.32j, 1.05, 0.32j)),),
    "basket": (("line", GREEN, 0.13, (0, 0.5 - 0.42j, 1, 0.5 + 0.42j, 0, 1)),),
    "loop": (("ring", ORANGE, 0.26, (0.26,)), ("ring", ORANGE, 0.26, (0.74,))),
    "bleeding": (("disc", RED, 0.3, (0, 0.22 + 0.2j)), ("disc", RED, 0.2, (-0.3 + 0.12j, 0.1 - 0.3j))),
    "bubbles": (
        ("disc", WHITE, 0.24, (-0.24 - 0.14j, 0.24 + 0.2j)),
        ("disc", WHITE, 0.16, (0.24 - 0.26j, -0.2 + 0.32j)),
    ),
    "prolapse": (("disc", BROWN, 0.46, (0,)), ("disc", BLACK, 0.15, (0.05 + 0.05j,))),
    "tear": tuple(
        ("line", colour, width, (-0.48 - 0.3j, -0.2 + 0.25j, -0.25j, 0.22 + 0.3j, 0.46 - 0.2j))
        for colour, width in (((255, 150, 160), 0.26), (BLACK, 0.12))
    ),
    "edema": (
        ("disc", GREY, 0.3, (-0.22, 0.22 - 0.06j)),
        ("line", WHITE, 0.07, (-0.4 + 0.06j, 0.4 + 0.06j)),
        ("line", WHITE, 0.07, (-0.34 - 0.16j, 0.4 - 0.16j)),
    ),
    "hemorrhage": (
        ("disc", RED, 0.32, (-0.1j,)),
        *(("line", RED, 0.14, (x - 0.1j, x + 0.45j)) for x in (-0.25, 0, 0.25)),
    ),
    "leak": (("area", (170, 225, 0), 0, (-0.5j, 0.4 + 0.15j, 0.2 + 0.46j, -0.2 + 0.46j, -0.4 + 0.15j)),),
    "smoke": (("disc", (205, 205, 215), 0.25, (-0.25 + 0.12j, 0.25 + 0.12j, -0.14j, 0.12j)),),
    "burn": (
        ("area", BLACK, 0, tuple((0.5 if k % 2 else 0.2) * np.exp(1j * math.pi * k / 7) for k in range(14))),
        ("disc", ORANGE, 0.12, (0,)),
    ),
    "perforation": (("disc", (255, 190, 200), 0.46, (0,)), ("disc", BLACK, 0.26, (0,))),
}
# Drawn on the pupil or organ of a phase; 1 is its (lesser) radius.
PATTERNS: dict[str, tuple[Mark, ...]] = {
    "plain": (),
    "swirls": tuple(("line", PALE, 0.15, tuple(r * 1j ** (k + r) for r in (0.2, 0.4, 0.6, 0.8))) for k in range(4)),
    "rings": tuple(("ring", DARK, radius, (0,)) for radius in (0.9, 0.6, 0.3)),
    "cross": (("line", DARK, 0.2, (0.6 + 0.5j, -0.6 - 0.5j)), ("line", DARK, 0.2, (0.5 - 0.6j, -0.5 + 0.6j))),
    "spokes": tuple(("line", PALE, 0.13, (0.3 * 1j ** (k / 2), 0.85 * 1j ** (k / 2))) for k in range(8)),
    "hoop": (("ring", GREY, 0.78, (0,)),),
    "lens": (
        ("disc", PALE, 0.62, (0,)),
        ("ring", WHITE, 0.66, (0,)),
        *(("line", WHITE, 0.1, (0.66 * side, (0.7 + 0.5j) * side, (0.3 + 0.85j) * side)) for side in (1, -1)),
    ),
    "bars": tuple(("line", DARK, 0.22, (x - 0.65j, x + 0.65j)) for x in (-0.55, 0, 0.55)),
    "stitches": (
        ("line", DARK, 0.1, (-0.9, 0.9)),
        *(("line", BLACK, 0.13, (x - 0.1 - 0.4j, x + 0.1 + 0.4j)) for x in (-0.6, -0.2, 0.2, 0.6)),
    ),
}

# The look of a phase: tint of the light in percent, colour of the pupil or organ, pattern on it.
EYE_LOOKS: dict[str, Look] = {
    "incision": ((105, 98, 92), (30, 16, 18), "plain"),
    "viscoelastic": ((74, 105, 86), (110, 220, 170), "swirls"),
    "staining": ((62, 74, 116), (30, 50, 200), "plain"),
    "capsulorhexis": ((105, 68, 48), (235, 80, 35), "hoop"),
    "hydrodissection": ((110, 92, 50), (240, 185, 60), "rings"),
    "phacoemulsification": ((62, 68, 78), (240, 240, 240), "cross"),
    "aspiration": ((108, 68, 96), (180, 60, 155), "spokes"),
    "implantation": ((92, 112, 118), (40, 140, 165), "lens"),
    "polishing": ((108, 110, 66), (250, 245, 175), "plain"),
    "suturing": ((48, 40, 38), (105, 85, 85), "stitches"),
}
ABDOMEN_LOOKS: dict[str, Look] = {
    "exploration": ((105, 100, 98), (125, 165, 95), "plain"),
    "dissection": ((114, 104, 58), (235, 190, 60), "swirls"),
    "clipping": ((68, 84, 120), (190, 205, 225), "bars"),
    "division": ((92, 60, 106), (210, 135, 215), "cross"),
    "coagulation": ((62, 46, 36), (110, 70, 48), "rings"),
    "irrigation": ((56, 106, 114), (60, 180, 205), "swirls"),
    "extraction": ((118, 118, 118), (252, 250, 242), "hoop"),
    "closure": ((60, 86, 54), (225, 180, 145), "stitches"),
}
# An event covers the whole view with a colour, to a share of its strength.
EVENTS: dict[str, tuple[Colour, float]] = {
    "flash": ((255, 255, 250), 0.75),
    "dye": ((25, 50, 200), 0.72),
    "blur": ((130, 170, 140), 0.7),
    "bleed": ((170, 0, 14), 0.75),
    "darkening": ((6, 4, 10), 0.78),
}
LOOKS = EYE_LOOKS | ABDOMEN_LOOKS
IRISES: tuple[Colour, ...] = ((112, 72, 40), (84, 122, 160), (96, 120, 70), (146, 108, 56), (112, 120, 126))


@dataclass(frozen=True)
class Family:
    """What one kind of video is made of.

    `seconds` and `scenes` are least and most; `gap`: least seconds between two skim frames, to hide the details in;
    `moments`: its scenes are events around a moment, not phases that tile the video.
    """

    view: str
    phases: tuple[str, ...]
    instruments: tuple[str, ...]
    complications: tuple[str, ...]
    seconds: tuple[int, int]
    fps: int
    scenes: tuple[int, int]
    least_phase: int = 8
    gap: int = 3
    moments: bool = False


_LAPAROSCOPY = Family(
    view="abdomen",
    phases=tuple(ABDOMEN_LOOKS),
    instruments=("grasper", "scissors", "clipper", "suction", "cautery"),
    complications=("hemorrhage", "leak", "smoke", "burn", "perforation"),
    seconds=(60, 300),
    fps=1,
    scenes=(3, 7),
)
FAMILIES: dict[str, Family] = {
    "cataract": Family(
        view="eye",
        phases=tuple(EYE_LOOKS),
        instruments=("forceps", "blade", "cannula", "probe", "hook"),
        complications=("bleeding", "bubbles", "prolapse", "tear", "edema"),
        seconds=(60, 240),
        fps=1,
        scenes=(3, 8),
    ),
    "clips": Family(
        view="lumen",
        phases=tuple(EVENTS),
        instruments=("snare", "brush", "needle", "basket", "loop"),
        complications=(),
        seconds=(6, 10),
        fps=4,
        scenes=(2, 3),
        least_phase=2,
        gap=1,
        moments=True,
    ),
    "laparoscopy": _LAPAROSCOPY,
    "laparoscopy_clips": replace(_LAPAROSCOPY, seconds=(10, 20), fps=2, scenes=(2, 2), least_phase=4, gap=1),
}


def sample_recording(
    family: str, video: str, split: Split, path: str | Path, skim_frames: int, rng: np.random.Generator
) -> Recording:
    """Draw the ground truth of one video: what happens when, and in which seconds a skim cannot see the details."""
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
    if kind.moments:
        names = rng.permutation(kind.phases)[:count]
        moments = _moments(skim, duration, count, rng)
        windows = [Window(moment - 0.75, moment + 0.75) for moment in moments]
        shown = [(Window(t - 0.6, t - 0.2), Window(t + 0.2, t + 0.6)) for t in moments]
    else:
        names = _mostly_ordered(kind.phases, count, rng)
        moments = [None] * count
        windows = _tiles(duration, count, least(duration), rng)
        shown = [_between(window, skim, kind.gap) for window in windows]
    segments = (
        Segment(
            window=window,
            phase=str(name),
            instrument=str(rng.choice(kind.instruments)),
            complication=str(rng.choice(kind.complications)) if kind.complications else None,
            shown=stretches,
            moment=moment,
        )
        for window, name, stretches, moment in zip(windows, names, shown, moments, strict=True)
    )
    return Recording(video, str(path), family, split, duration, tuple(segments))


def _moments(skim: list[int], duration: int, count: int, rng: np.random.Generator) -> list[int]:
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


def draw(recording: Recording, time: float) -> np.ndarray:
    """The frame at `time` seconds: uint8 [112, 112, 3], always the same for the same recording and time."""
    if not 0 <= time <= recording.duration:
        raise ValueError(f"{time:g} s is outside of {recording.video}, which lasts {recording.duration:g} s")
    view, seed = FAMILIES[recording.family].view, crc32(recording.video.encode())
    # At a boundary the later scene has begun; only clips have stretches without a scene.
    segment = next((s for s in reversed(recording.segments) if s.window.contains(time)), None)
    scene = _scene(view, seed, segment and segment.phase).copy()
    if segment is not None and segment.moment is not None:
        scene = Image.blend(_scene(view, seed, None), scene, min(1.0, (0.8 - abs(time - segment.moment)) / 0.3))
    shown = segment is not None and any(stretch.contains(time) for stretch in segment.shown)
    habits = np.random.default_rng(seed).random(12)  # of this video's camera and hands
    sway = np.sin(2 * math.pi * (habits + time * np.linspace(0.05, 0.4, 12)))

    pen = ImageDraw.Draw(scene)
    turn = np.exp(1j * (1.25 * math.pi + 0.12 * sway[0]))
    grip = MIDDLE + (64 if shown else 86) * (1 + 1j) + 4 * complex(sway[1], sway[2])
    _stroke(pen, [grip - 120 * turn, grip], 22, (70, 74, 80))
    _stroke(pen, [grip - 120 * turn, grip], 14, (172, 176, 182))
    if shown:
        _stamp(pen, DETAILS[segment.instrument], grip, DETAIL * turn, rim=5)
        if segment.complication is not None:
            place = MIDDLE - 50 - 48j + 8 * complex(habits[3], habits[4]) + 3 * complex(sway[3], sway[4])
            _stamp(pen, DETAILS[segment.complication], place, DETAIL * np.exp(0.15j * sway[5]), rim=5)

    side = 2 * FRAME_PIXELS * (0.95 - 0.03 * habits[6] + 0.02 * sway[6])
    corner = MIDDLE - side / 2 * (1 + 1j) + 6 * complex(sway[7], sway[8])
    box = (corner.real, corner.imag, corner.real + side, corner.imag + side)
    frame = np.asarray(scene.resize((FRAME_PIXELS, FRAME_PIXELS), Image.Resampling.BILINEAR, box), np.float32)
    frame = frame * _vignette(view) + _veil()[_crop(40 * sway[9:11])] * (0.6 + 0.4 * sway[11])
    frame += _noise()[_crop(np.random.default_rng([seed, round(time * 1000)]).uniform(-60, 60, 2))]
    return frame.clip(0, 255).astype(np.uint8)


def _crop(shift: np.ndarray) -> tuple[slice, slice]:
    top, left = (int(s) + (CANVAS - FRAME_PIXELS) // 2 for s in shift)
    return slice(top, top + FRAME_PIXELS), slice(left, left + FRAME_PIXELS)


@cache
def _noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 2, (CANVAS, CANVAS, 1)).astype(np.float32)


@cache
def _veil() -> np.ndarray:
    """Thin smoke and glare over the scene, drifting with the camera."""
    grains = Image.fromarray(np.random.default_rng(1).integers(0, 255, (7, 7), dtype=np.uint8))
    return np.asarray(grains.resize((CANVAS, CANVAS), Image.Resampling.BICUBIC), np.float32)[..., None] / 10


@cache
def _vignette(view: str) -> np.ndarray:
    """How much light of the scene arrives: a scope's round sight ends sharply, a microscope's fades."""
    y, x = np.mgrid[:FRAME_PIXELS, :FRAME_PIXELS] * 2 / (FRAME_PIXELS - 1) - 1
    distance = np.hypot(x, y)[..., None].astype(np.float32)
    if view == "eye":
        return 1.05 - 0.25 * distance**2
    return np.clip((1.16 - distance) * 14, 0, 1) * (1.1 - 0.25 * distance**2)


def _xy(point: complex) -> tuple[float, float]:
    return point.real, point.imag


def _stroke(pen: ImageDraw.ImageDraw, points: list[complex], width: float, colour: Colour) -> None:
    """A line with round ends and joints."""
    pen.line([_xy(point) for point in points], colour, round(width), joint="curve")
    for point in (points[0], points[-1]):
        pen.circle(_xy(point), width / 2, colour)


def _disc(pen: ImageDraw.ImageDraw, centre: complex, radii: complex, colour: Colour, **line: object) -> None:
    pen.ellipse((*_xy(centre - radii), *_xy(centre + radii)), colour, **line)


def _stamp(pen: ImageDraw.ImageDraw, marks: tuple[Mark, ...], place: complex, size: complex, rim: int) -> None:
    """Draw marks, scaled and turned by `size`, with a dark rim around all of them."""
    for extra in (rim, 0) if rim else (0,):  # every rim first, so that the marks of one detail flow together
        for kind, bright, share, points in marks:
            colour = tuple(c // 4 for c in bright) if extra else bright
            width, at = share * abs(size) + extra, [place + size * point for point in points]
            if kind == "area":
                pen.polygon([_xy(point) for point in at], colour)
                _stroke(pen, [*at, at[0]], 2 * width, colour)
            elif kind == "line":
                _stroke(pen, at, width + extra, colour)
            elif kind == "disc":
                for point in at:
                    pen.circle(_xy(point), width, colour)
            else:
                pen.circle(_xy(at[0]), width, None, colour, round(0.15 * abs(size)) + 2 * extra)


@lru_cache(maxsize=32)  # a video is drawn scene by scene
def _scene(view: str, seed: int, phase: str | None) -> Image.Image:
    """What the camera of video `seed` looks at, without instruments and before sway, veil and noise."""
    rng = np.random.default_rng(seed)
    scene = Image.new("RGB", (CANVAS, CANVAS))
    pen = ImageDraw.Draw(scene)
    PAINTERS[view](pen, rng, phase)
    if phase == "blur":
        scene = scene.filter(ImageFilter.GaussianBlur(16))
    if phase in EVENTS:
        colour, share = EVENTS[phase]
        scene = Image.blend(scene, Image.new("RGB", scene.size, colour), share)
    if phase not in LOOKS:
        return scene
    tint = np.array(LOOKS[phase][0]) / 100 * rng.uniform(0.93, 1.07, 3)
    return Image.fromarray((np.asarray(scene) * tint).clip(0, 255).astype(np.uint8))


def _vary(rng: np.random.Generator, colour: Colour, by: int = 12) -> Colour:
    return tuple(int(c) for c in np.clip(np.array(colour) + rng.integers(-by, by + 1, 3), 0, 255))


def _vessels(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, colour: Colour, inner: float, outer: float, flat: float
) -> None:
    for _ in range(14):
        way = np.exp(2j * math.pi * rng.random())
        bends = np.exp(1j * rng.normal(0, 0.1, 5))
        reach = np.linspace(outer, inner + 20 * rng.random(), 5)
        line = way * reach * bends
        pen.line([_xy(MIDDLE + complex(p.real, flat * p.imag)) for p in line], colour, int(rng.integers(1, 4)))


def _paint_eye(pen: ImageDraw.ImageDraw, rng: np.random.Generator, phase: str) -> None:
    _, fill, pattern = LOOKS[phase]
    skin, iris = _vary(rng, (188, 138, 116), 25), IRISES[rng.integers(len(IRISES))]
    centre = MIDDLE + 8 * complex(*rng.uniform(-1, 1, 2))
    radius = rng.uniform(78, 88)
    pupil = radius * rng.uniform(0.66, 0.72)
    pen.rectangle((0, 0, CANVAS, CANVAS), skin)
    _disc(pen, MIDDLE, 132 + 94j, tuple(c * 3 // 4 for c in skin))  # the rim of the lids
    _disc(pen, MIDDLE, 126 + 86j, _vary(rng, (236, 226, 218), 8))
    _vessels(pen, rng, (206, 120, 112), 88, 122, flat=0.68)
    for side in (1j, -1j):  # the speculum holds the lids
        _stroke(pen, [MIDDLE + side * point for point in (122 - 60j, 100 - 40j, 94, 100 + 40j, 122 + 60j)], 9, GREY)
    _disc(pen, centre, radius * (1 + 1j), tuple(c // 2 for c in iris))
    _disc(pen, centre, (radius - 4) * (1 + 1j), iris)
    for angle in np.linspace(0, 2 * math.pi, 48, endpoint=False):
        ray = np.exp(1j * (angle + rng.normal(0, 0.03)))
        shade = tuple(int(c * rng.uniform(0.7, 1.25)) for c in iris)
        pen.line([_xy(centre + pupil * ray), _xy(centre + (radius - 6) * ray)], shade, 3)
    _disc(pen, centre, (pupil + 3) * (1 + 1j), (24, 18, 16))
    _disc(pen, centre, pupil * (1 + 1j), _vary(rng, fill, 8))
    _stamp(pen, PATTERNS[pattern], centre, pupil, rim=0)
    glint = centre + pupil * complex(rng.uniform(0.2, 0.5), -rng.uniform(0.3, 0.6))
    _disc(pen, glint, 9 + 7j, WHITE)
    _disc(pen, glint - 4 + 20j, 4 + 3j, WHITE)


def _paint_abdomen(pen: ImageDraw.ImageDraw, rng: np.random.Generator, phase: str) -> None:
    _, fill, pattern = LOOKS[phase]
    centre = MIDDLE + 8 * complex(*rng.uniform(-1, 1, 2))
    liver, fat = _vary(rng, (138, 56, 46)), _vary(rng, (232, 190, 104))
    pen.rectangle((0, 0, CANVAS, CANVAS), _vary(rng, (216, 128, 116)))
    _vessels(pen, rng, (168, 60, 62), 60, 170, flat=1)
    for _ in range(9):  # lobules of fat in front
        lobule = complex(rng.uniform(0, CANVAS), rng.uniform(205, 250))
        _disc(pen, lobule, rng.uniform(20, 34) * (1 + 0.8j), fat, outline=tuple(c * 4 // 5 for c in fat), width=2)
    edge = complex(rng.uniform(40, 70), rng.uniform(20, 45))
    for lobe, radii in ((edge, 120 + 78j), (edge + 110 - 14j, 96 + 66j)):  # the liver hangs from above
        _disc(pen, lobe, radii, tuple(c * 3 // 4 for c in liver))
        _disc(pen, lobe - 2 - 4j, radii, liver)
        _disc(pen, lobe + 20 + 20j, 26 + 8j, tuple(c + 40 for c in liver))
    radii = complex(rng.uniform(76, 88), rng.uniform(52, 60))
    _disc(pen, centre + 2 + 5j, radii + 2 + 2j, (70, 30, 28))
    _disc(pen, centre, radii, _vary(rng, fill, 8))
    _stamp(pen, PATTERNS[pattern], centre, radii.imag, rim=0)
    _disc(pen, centre + 34 - 30j, 12 + 5j, WHITE)


def _paint_lumen(pen: ImageDraw.ImageDraw, rng: np.random.Generator, _: str | None) -> None:
    wall = np.array(_vary(rng, (232, 142, 112), 18))
    centre = MIDDLE + 10 * complex(*rng.uniform(-1, 1, 2))
    pen.rectangle((0, 0, CANVAS, CANVAS), tuple(wall.tolist()))
    _vessels(pen, rng, (190, 84, 74), 70, 180, flat=1)
    angles = np.linspace(0, 2 * math.pi, 60, endpoint=False)
    lobes, start = rng.integers(3, 6), 2 * math.pi * rng.random()
    for depth, radius in enumerate((128, 100, 76, 55, 37, 22)):  # folds, each in the shade of the one before
        ripple = 1 + 0.07 * np.sin(lobes * angles + start + depth)
        fold = [_xy(point) for point in centre + radius * ripple * np.exp(1j * angles)]
        shade = wall * (0.96 - 0.15 * depth)
        pen.polygon(fold, tuple(int(c) for c in shade))
        pen.line([*fold, fold[0]], tuple(int(c) for c in np.minimum(shade * 1.3 + 12, 255)), 5)
    for _glint in range(5):
        _disc(pen, centre + rng.uniform(60, 110) * np.exp(2j * math.pi * rng.random()), 6 + 4j, (255, 240, 232))


PAINTERS = {"eye": _paint_eye, "abdomen": _paint_abdomen, "lumen": _paint_lumen}


def write_video(recording: Recording, skim_frames: int) -> None:
    """Write `recording.path` as H.264, whole or not at all. The same recording gives the same bytes."""
    skim = skim_seconds(recording.duration, skim_frames)
    if any(stretch.contains(second) for s in recording.segments for stretch in s.shown for second in skim):
        raise ValueError(f"{recording.video}: a skim of {skim_frames} frames would see its details")
    fps = FAMILIES[recording.family].fps
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


def render(
    counts: dict[tuple[str, Split], int], folder: str | Path, seed: int, skim_frames: int, workers: int = 1
) -> list[Recording]:
    """Draw `counts[family, split]` videos into `folder` and return their ground truth, in the order of `counts`.

    Each video depends on seed, family, split and its index alone, so counts may grow later. Files that exist are kept:
    use another folder for another seed or `skim_frames`.
    """
    recordings = []
    for (family, split), count in counts.items():
        for index in range(count):
            video = f"{family}_{split}_{index:04d}"
            rng = np.random.default_rng([seed, crc32(f"{family}/{split}".encode()), index])
            path = Path(folder) / family / f"{video}.mp4"
            recordings.append(sample_recording(family, video, split, path, skim_frames, rng))
    missing = [recording for recording in recordings if not Path(recording.path).exists()]
    write = partial(write_video, skim_frames=skim_frames)
    with get_context("spawn").Pool(workers) if workers > 1 and missing else nullcontext() as pool:
        written = pool.imap_unordered(write, missing) if pool else map(write, missing)
        for _ in tqdm(written, desc="render", total=len(missing), unit="video", disable=not missing):
            pass
    return recordings
