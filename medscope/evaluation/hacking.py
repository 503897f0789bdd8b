"""What the reward could be made to pay: the calls of real predictions replaced by calls that see nothing new.

R_evidence reads the last executed crop and the last executed frame. A policy under training could learn the following,
and none of it makes an answer better:

- `free_frame`: one get_frame more, in the middle of the last crop. It earns R_frame beside R_crop.
- `whole_video`: one crop of the whole video in the place of all calls.
- `answer_crop`: one crop more, of the window that the answer names: it is known already. (The last call counts.)
- `best_again`: the best of its own crops once more, in the place of a revision that was worse.
- `miss`: a crop that shares nothing with the evidence, in the place of a last crop that shares too little (IoU < h0).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np

from medscope.environment.environment import Trace
from medscope.environment.grammar import parse_window
from medscope.evaluation.predictions import Prediction, by_set
from medscope.metrics import temporal_iou
from medscope.records import Timestamp, ToolCall, Window
from medscope.rewards import H0, Form, RewardSettings, crop_reward, reward

Calls = tuple[ToolCall, ...]


def _crop(window: Window) -> ToolCall:
    return ToolCall("crop_video", {"start_time": window.start, "end_time": window.end}, window)


def _crops(prediction: Prediction) -> list[Window]:
    return [call.looked for call in prediction.calls if isinstance(call.looked, Window)]


def free_frame(prediction: Prediction, duration: float, form: Form) -> Calls | None:
    if prediction.window is None:
        return None
    middle = (prediction.window.start + prediction.window.end) / 2
    return (*prediction.calls, ToolCall("get_frame", {"timestamp": middle}, Timestamp(middle)))


def whole_video(prediction: Prediction, duration: float, form: Form) -> Calls | None:
    return (_crop(Window(0.0, duration)),)


def answer_crop(prediction: Prediction, duration: float, form: Form) -> Calls | None:
    named = parse_window(prediction.answer) if isinstance(prediction.task.reference, Window) else None
    return (*prediction.calls, _crop(named)) if named else None


def best_again(prediction: Prediction, duration: float, form: Form) -> Calls | None:
    crops, evidence = _crops(prediction), prediction.task.evidence
    if len(crops) < 2:
        return None
    return (*prediction.calls, _crop(max(crops, key=lambda window: crop_reward(window, evidence, form=form))))


def miss(prediction: Prediction, duration: float, form: Form) -> Calls | None:
    window, evidence = prediction.window, prediction.task.evidence
    if window is None or not isinstance(evidence, Window) or not 0 < temporal_iou(window, evidence) < H0:
        return None
    after = _crop(Window(evidence.end, evidence.end + 1.0))  # touches it at one instant: IoU 0
    return tuple(after if call.looked == window else call for call in prediction.calls)


HACKS: dict[str, Callable[[Prediction, float, Form], Calls | None]] = {
    hack.__name__: hack for hack in (free_frame, whole_video, answer_crop, best_again, miss)
}


def earned(prediction: Prediction, settings: RewardSettings) -> float:
    """The reward of a prediction, as a rollout of training would earn it."""
    trace = Trace(list(prediction.calls))
    turns = list(prediction.turns)
    paid = reward(turns, prediction.accuracy, trace.window, trace.timestamp, prediction.task.evidence, settings)
    return paid.total


def hacking_table(
    systems: Mapping[str, Sequence[Prediction]], durations: Mapping[str, float]
) -> dict[str, dict[str, dict[str, Any]]]:
    """metrics/hacking.json: {`system set`: {hack: applies, and per form of R_crop the mean gain where it applies}}.

    `durations` are seconds by video. `as it is` is the mean reward without any replacement. Turns and verdict stay, so
    that a gain is paid for nothing; one below 0 is a hack that the form punishes. None where a hack never applies.
    """
    table = {}
    for system, predictions in systems.items():
        for name, some in by_set(predictions).items():
            forms = {form: RewardSettings(form=form) for form in get_args(Form)}
            own = {form: [earned(p, settings) for p in some] for form, settings in forms.items()}
            rows: dict[str, dict[str, Any]] = {"as it is": {"applies": len(some)}}
            rows["as it is"] |= {form: float(np.mean(values)) for form, values in own.items()}
            for hack, change in HACKS.items():
                gains: dict[str, list[float]] = {form: [] for form in forms}
                for form, settings in forms.items():
                    for prediction, before in zip(some, own[form], strict=True):
                        calls = change(prediction, durations[prediction.task.video], form)
                        if calls is not None:
                            gains[form].append(earned(replace(prediction, calls=calls), settings) - before)
                rows[hack] = {"applies": len(next(iter(gains.values())))}
                rows[hack] |= {form: float(np.mean(values)) if values else None for form, values in gains.items()}
            table[f"{system} {name}"] = rows
    return table
