"""The rewards, one pure function per equation. R = w_acc R_acc + w_format R_format + w_evidence R_evidence.

R_evidence = R_crop + R_frame reads the last call of each tool that the environment really executed, never text.

Known traps of the published form, and what `form` chooses:
- `paper`: a poor overlap (0 < IoU < h0) earns -alpha, less than a miss (0). Taken literally.
- `monotone`: never pays less for more overlap: 0 at no overlap, rising linearly to alpha at h0, then the same bonus.
"""

import math
from dataclasses import dataclass
from typing import Literal

from medscope.environment.dialogue import MAX_ANSWER_CHARACTERS, is_well_formed, parse_answer, split_turns
from medscope.metrics import temporal_iou
from medscope.records import Evidence, Timestamp, Window

Form = Literal["paper", "monotone"]


def crop_reward(
    window: Window | None,
    evidence: Evidence,
    alpha: float = 1.0,
    h0: float = 0.5,
    eta: float = 0.1,
    delta: float = 0.05,
    form: Form = "paper",
) -> float:
    """R_crop of the last executed crop (None: no crop was made, 0).

    Window evidence: 0 if IoU = 0; -alpha if 0 < IoU < h0; alpha + eta * floor((IoU - h0) / delta) if IoU >= h0.
    Timestamp evidence: 1 if the window contains it, else 0.
    """
    if form not in ("paper", "monotone"):
        raise ValueError(f"reward form {form!r} is unknown; choose paper or monotone")
    if window is None:
        return 0.0
    if isinstance(evidence, Timestamp):
        return float(window.contains(evidence.time))
    iou = temporal_iou(window, evidence)
    if iou == 0:
        return 0.0
    if iou < h0 - 1e-9:
        return -alpha if form == "paper" else alpha * iou / h0
    return alpha + eta * math.floor((iou - h0) / delta + 1e-9)  # the 1e-9 keeps IoU .60, .70, .85, .95 in their bins


def frame_reward(time: float | None, evidence: Evidence, tolerance: float = 1.0) -> float:
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
    alpha: float = 1.0
    h0: float = 0.5
    eta: float = 0.1
    delta: float = 0.05
    tolerance: float = 1.0
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
    moment: float | None,
    evidence: Evidence,
    settings: RewardSettings,
) -> Reward:
    """All terms of one rollout: its turns, the judge's verdict, and the environment's last crop and frame."""
    s = settings
    formatted = turns_format_reward(turns)
    crop = crop_reward(window, evidence, s.alpha, s.h0, s.eta, s.delta, s.form)
    frame = frame_reward(moment, evidence, s.tolerance)
    paid = crop + frame if accuracy == 1.0 or not s.conditional else 0.0
    return Reward(accuracy, formatted, crop, frame, s.w_acc * accuracy + s.w_format * formatted + s.w_evidence * paid)
