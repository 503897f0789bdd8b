"""What opens a dialogue: the chat template, the tools as the model reads them, the system prompts."""

from typing import Any

from transformers.utils import get_json_schema
from trl.chat_template_utils import qwen3_vl_chat_template

from medscope.environment.environment import Blocks, ClinicalVideoEnvironment

CHAT_TEMPLATE = qwen3_vl_chat_template  # the Qwen2.5-VL layout plus tools; the model's own template drops them
TOOLS = [get_json_schema(getattr(ClinicalVideoEnvironment, name)) for name in ("crop_video", "get_frame")]
for _tool in TOOLS:  # what a tool returns is for the reader of the code, not part of the model's prompt
    _tool["function"].pop("return", None)

SYSTEM = (
    "You answer questions about a clinical video that you have skimmed: every frame is followed by its second. "
    "Think inside <think> tags: name what to find, tell the storyline with its seconds, choose the window to verify. "
    "Give the final answer inside <answer> tags, once, after the last thought."
)
SYSTEM_TOOLS = SYSTEM + (
    " Before answering, look closely: crop_video shows a window densely, get_frame one second at high resolution. "
    "Call one tool after a thought, then think again about what it showed."
)
# Behind the question as well, where a model reads last whether it has tools.
USE_TOOLS = " Look closely first."


def opening(question: str, skim: Blocks, tools: bool = True) -> list[dict[str, Any]]:
    """The first messages of a dialogue: the system prompt, then the skim and the question."""
    text = {"type": "text", "text": f"\n{question}{USE_TOOLS if tools else ''}"}
    return [
        {"role": "system", "content": SYSTEM_TOOLS if tools else SYSTEM},
        {"role": "user", "content": [*skim, text]},
    ]
