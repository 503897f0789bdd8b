"""Tasks and predictions by hand, for the tests of what derives from them."""

from medscope.evaluation.predictions import Prediction
from medscope.records import Task, Text, ToolCall, Window


def task(
    number, reference, evidence=None, video="a", kind="detail", split="eval", collection="set", subject="", **fields
):
    """Task `set:3`: evidence from 0 to 10 s unless told otherwise."""
    reference = Text(reference) if isinstance(reference, str) else reference
    evidence = evidence or (reference if isinstance(reference, Window) else Window(0, 10))
    return Task(
        f"{collection}:{number}", video, f"{video}.mp4", "What?", reference, evidence, kind, split, collection,
        subject=subject, **fields,
    )  # fmt: skip


def crop(start, end):
    """An executed crop_video."""
    return ToolCall("crop_video", {"start_time": start, "end_time": end}, Window(start, end))


def prediction(asked, answer="", accuracy=0.0, calls=(), system="sft", **fields):
    """A prediction whose last turn thinks and answers."""
    look = '<think>look</think><tool_call>{"name": "crop_video", "arguments": {}}</tool_call>'
    turns = (*[look] * len(calls), f"<think>seen</think><answer>{answer}</answer>")
    return Prediction(asked, system, turns, tuple(calls), accuracy, **fields)
