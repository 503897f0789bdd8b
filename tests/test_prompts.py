"""The exact text that a model reads: prompts as committed snapshots, tool responses as the chat template puts them."""

from pathlib import Path

import pytest
from PIL import Image

from medscope.agents.encoding import RESPONSE_HEAD, RESPONSE_TAIL, encode_blocks, encode_prompt, encode_turn
from medscope.environment.grammar import call_text
from medscope.environment.prompts import TOOLS, opening


def frame_blocks(seconds):
    frame = Image.new("RGB", (28, 28))
    texts = [{"type": "text", "text": f" {second}s"} for second in seconds]
    return [block for text in texts for block in ({"type": "image", "image": frame}, text)]


@pytest.mark.parametrize("tools", [True, False])
def test_the_prompt_is_byte_for_byte_the_one_in_the_snapshot(tools, policy):
    """A changed prompt needs new checkpoints; if the change is meant, write the new text into the snapshot."""
    skim = [*frame_blocks([0, 48, 97]), {"type": "text", "text": " end 145s"}]
    messages = opening("When does the incision take place?", skim, tools)
    text = policy.processor.apply_chat_template(
        messages, tools=TOOLS if tools else None, add_generation_prompt=True, tokenize=False
    )
    prompt = encode_prompt(policy, messages, tools)
    snapshot = Path(__file__).parent / "snapshots" / f"prompt_{'with' if tools else 'without'}_tools.txt"
    assert text.encode() == snapshot.read_bytes()
    assert prompt.ids == policy.encode(text) and len(prompt.images) == 3  # frames of one token each


def test_the_text_around_a_tool_response_is_that_of_the_chat_template(policy):
    messages = opening("When?", frame_blocks([0]))
    prompt = encode_prompt(policy, messages, tools=True)
    shown, turn = frame_blocks([30, 31]), "<think>t</think>" + call_text("get_frame", {"timestamp": 40})
    for _ in range(2):  # two rounds of a dialogue, as a rollout grows it
        prompt.ids += encode_turn(policy, turn).ids + encode_blocks(policy, shown, RESPONSE_HEAD, RESPONSE_TAIL).ids
        messages += [{"role": "assistant", "content": turn}, {"role": "tool", "content": shown}]
    rendered = policy.processor.apply_chat_template(messages, tools=TOOLS, add_generation_prompt=True, tokenize=False)
    assert prompt.ids == policy.encode(rendered) == encode_prompt(policy, messages, tools=True).ids
