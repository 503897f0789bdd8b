"""A reply of any model as a `Prediction`, so that lmms-eval and our tables score by the same functions.

Our model writes behind its last turn which window its last executed crop showed. Another model's reply has only a text:
its answer is what stands between `<answer>` tags, or all of it, and it has looked at nothing.
"""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from medscope.environment.grammar import parse_answer
from medscope.evaluation.judge import exact_judge
from medscope.evaluation.predictions import Prediction
from medscope.records import Task, ToolCall, Window

_LOOKED = re.compile(r"<looked>(?:(\S+) (\S+))?</looked>\s*$")
_QUARANTINED = re.compile(r"<quarantined>.*</quarantined>\s*", re.DOTALL)


def reply_text(turns: Sequence[str], calls: Sequence[ToolCall]) -> str:
    """The last turn, and the window of the last executed crop in seconds."""
    window = next((call.looked for call in reversed(calls) if isinstance(call.looked, Window)), None)
    return turns[-1] + f"<looked>{f'{window.start!r} {window.end!r}' if window else ''}</looked>"


def quarantined_text(reason: str) -> str:
    """Of a dialogue that has no answer to score."""
    return f"<quarantined>{reason}</quarantined>"


def task_of(doc: dict[str, Any]) -> Task:
    """The task that a row of the exported data carries."""
    return TypeAdapter(Task).validate_json(doc["task"])


def prediction_of(task: Task, reply: str) -> Prediction | None:
    """The prediction that a reply is, graded by the exact judge; None for one in quarantine."""
    if _QUARANTINED.fullmatch(reply):
        return None
    looked = _LOOKED.search(reply)
    text = reply[: looked.start()] if looked else reply
    if not looked and "<answer>" not in text:
        text = f"<answer>{text.strip()}</answer>"
    calls = ()
    if looked and looked[1]:
        start, end = float(looked[1]), float(looked[2])
        calls = (ToolCall("crop_video", {"start_time": start, "end_time": end}, Window(start, end)),)
    answer = parse_answer(text)
    return Prediction(task, "lmms-eval", (text,), calls, exact_judge(answer, task.reference))
