"""The rewards, one pure function per equation. R = w_acc R_acc + w_format R_format + w_evidence R_evidence.

R_evidence = R_crop + R_frame reads the last call of each tool that the environment really executed, never text.
Inputs are plain values: turns, the judge's verdict, a window and a time in seconds. Outputs are floats, unbounded.

R_crop has three forms. They differ for a window that overlaps the evidence too little, 0 < IoU < h0:
- `paper`: -alpha, as in a co-author's public training code. A poor overlap earns less than a miss (0).
- `paper_text`: -alpha + eta * floor((IoU - h0) / delta), as in the authors' text, whose bonus is then negative: IoU .1
  earns -1.8. A poor overlap earns less than a miss, and a very poor one least of all.
- `monotone`: alpha * IoU / h0, ours. More overlap never earns less.

How to add a form: docs/changing_the_reward.md.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from medscope.environment.grammar import MAX_ANSWER_CHARACTERS, is_well_formed, parse_answer, split_turns
from medscope.metrics import temporal_iou
from medscope.records import Evidence, Timestamp, Window

Form = Literal["paper", "paper_text", "monotone"]
# The published constants. The functions and `RewardSettings` take their defaults from here and nowhere else.
ALPHA = 1.0  # earned at h0
H0 = 0.5  # least IoU of a good crop
ETA = 0.1  # bonus per bin of IoU above h0
DELTA = 0.05  # width of a bin
TOLERANCE = 1.0  # seconds between a frame and a timestamp at which nothing is earned any more
ROUNDING = 1e-9  # keeps IoU .60, .70, .85, .95 in their bins


def crop_reward(
    window: Window | None,
    evidence: Evidence,
    alpha: float = ALPHA,
    h0: float = H0,
    eta: float = ETA,
    delta: float = DELTA,
    form: Form = "paper",
) -> float:
    """R_crop of the last executed crop (None: no crop was made, 0).

    Window evidence: 0 if IoU = 0; as `form` says if 0 < IoU < h0; alpha + eta * floor((IoU - h0) / delta) if IoU >= h0.
    Timestamp evidence: 1 if the window contains it, else 0. Raises ValueError for an unknown form.
    """
    if form not in get_args(Form):
        raise ValueError(f"reward form {form!r} is unknown; choose one of {', '.join(get_args(Form))}")
    if window is None:
        return 0.0
    if isinstance(evidence, Timestamp):
        return float(window.contains(evidence.time))
    iou = temporal_iou(window, evidence)
    if iou == 0:
        return 0.0
    bonus = eta * math.floor((iou - h0) / delta + ROUNDING)
    if iou >= h0 - ROUNDING:
        return alpha + bonus
    if form == "monotone":
        return alpha * iou / h0
    return -alpha + (bonus if form == "paper_text" else 0.0)


def frame_reward(time: float | None, evidence: Evidence, tolerance: float = TOLERANCE) -> float:
    """R_frame of the last executed get_frame (None: none was made, 0).

    Window evidence: 1 inside it, else 0. Timestamp evidence: max(0, 1 - |t - t_evidence| / tolerance), in seconds.
    """
    if time is None:
        return 0.0
    if isinstance(evidence, Timestamp):
        return max(0.0, 1 - abs(time - evidence.time) / tolerance)
    return float(evidence.contains(time))


def format_reward(text: str) -> float:
    """R_format in {0, 1} of a whole trajectory's text (tool responses may stand in it): the strict tag grammar.

    `<think>`, then any number of (`<tool_call>`, response, `<think>`), then one `<answer>` under 1000 characters.
    """
    return turns_format_reward(split_turns(text))


def turns_format_reward(turns: list[str]) -> float:
    """R_format of the model's own turns, as a rollout records them; a tool response inside a turn is forged: 0."""
    answer = parse_answer(turns[-1]) if turns else None
    return float(is_well_formed(turns) and answer is not None and len(answer) < MAX_ANSWER_CHARACTERS)


@dataclass(frozen=True)
class RewardSettings:
    """Weights and constants of the reward. `conditional`: R_evidence only where R_acc = 1 (figure 5)."""

    w_acc: float = 1.0
    w_format: float = 1.0
    w_evidence: float = 1.0
    alpha: float = ALPHA
    h0: float = H0
    eta: float = ETA
    delta: float = DELTA
    tolerance: float = TOLERANCE
    form: Form = "paper"
    conditional: bool = False


@dataclass(frozen=True)
class Reward:
    """The terms of one rollout's reward. `evidence` is also the fidelity f_k that modulates the advantage."""

    accuracy: float
    format: float
    crop: float
    frame: float
    total: float

    @property
    def evidence(self) -> float:
        return self.crop + self.frame


def reward(
    turns: list[str],
    accuracy: float,
    window: Window | None,
    timestamp: float | None,
    evidence: Evidence,
    settings: RewardSettings,
) -> Reward:
    """All terms of one rollout: its turns, the judge's verdict, and its last executed crop and frame (seconds)."""
    s = settings
    formatted = turns_format_reward(turns)
    crop = crop_reward(window, evidence, s.alpha, s.h0, s.eta, s.delta, s.form)
    frame = frame_reward(timestamp, evidence, s.tolerance)
    paid = crop + frame if accuracy == 1.0 or not s.conditional else 0.0
    return Reward(accuracy, formatted, crop, frame, s.w_acc * accuracy + s.w_format * formatted + s.w_evidence * paid)
