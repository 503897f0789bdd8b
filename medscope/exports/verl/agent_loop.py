"""verl's tool loop with our grammar: what a call is, which calls are refused, and the turns that the reward reads.

The stock loop ends a dialogue at an unreadable call, puts the seconds behind all frames, and its reward sees one text
in which a model may forge a tool's response. Here every turn is recorded as the model wrote it, an unreadable call is
answered like any refused one, every frame is followed by its second, and a turn with two calls, or with a call and an
answer, is the last one (`medscope.environment.grammar`). So the tokens are those of `medscope.agents.rollout`.
"""

import json
import re
from functools import partial
from typing import Any

from verl.experimental.agent_loop.agent_loop import register
from verl.experimental.agent_loop.tool_agent_loop import AgentData, AgentState, ToolAgentLoop
from verl.experimental.agent_loop.tool_parser import FunctionCall, ToolParser
from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse

from medscope.environment.environment import step
from medscope.environment.grammar import find_tool_call, parse_tool_call
from medscope.environment.tools import ToolError
from medscope.exports.verl.tools import environment_of, respond

LOOP = PARSER = "medscope"  # their names in verl's configuration
TURNS = "medscope_turns"  # field of a dialogue that the reward reads


def turn_text(tokenizer: Any, ids: list[int]) -> tuple[str, bool]:
    """A turn as the model wrote it, and whether it was ended (False: cut off at a limit)."""
    ended = bool(ids) and ids[-1] == tokenizer.eos_token_id  # <|im_end|>
    return tokenizer.decode(ids[:-1] if ended else ids), ended


def with_seconds(content: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """A tool's response with every frame followed by its second, where verl has put all frames before all seconds."""
    if isinstance(content, str):
        return content
    images, text = content[:-1], content[-1]["text"]
    seconds = re.findall(r" [^ ]+", text)
    if len(seconds) != len(images) or "".join(seconds) != text:
        raise ValueError(
            f"a response of {len(images)} frames has the seconds {text!r}; was max_tool_response_length met?"
        )
    texts = [{"type": "text", "text": second} for second in seconds]
    return [block for pair in zip(images, texts, strict=True) for block in pair]


@ToolParser.register(PARSER)
class GrammarParser(ToolParser):
    """The only call of an ended turn. A call that cannot be read has a name that no tool has."""

    async def extract_tool_calls(
        self, responses_ids: list[int], tools: list[OpenAIFunctionToolSchema] | None = None
    ) -> tuple[str, list[FunctionCall]]:
        """The text of the turn, and its call if it makes one."""
        text, ended = turn_text(self.tokenizer, responses_ids)
        call = find_tool_call(text) if ended else None
        if call is None:
            return text, []
        try:
            name, arguments = parse_tool_call(call)
        except ToolError:
            name, arguments = "unreadable", {}
        return text, [FunctionCall(name=name, arguments=json.dumps(arguments))]


@register(LOOP)
class MedScopeAgentLoop(ToolAgentLoop):
    """Records the turns, labels the frames, refuses in our words what verl would not hand to a tool."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if set(self.tools) != {"crop_video", "get_frame"} or self.tool_parser_name != PARSER:
            raise ValueError(
                f"the agent loop {LOOP!r} needs multi_turn.format={PARSER} and the tools crop_video and get_frame, "
                f"not format {self.tool_parser_name!r} and tools {sorted(self.tools)}; set multi_turn.tool_config_path "
                "to the exported tools.yaml"
            )
        known, settings = self.tokenizer.get_vocab(), self.tools["crop_video"].config
        self.max_turn_tokens = settings["budget"]["max_turn_tokens"]
        self.suppressed = {known[token]: -100.0 for token in settings["suppressed"] if token in known}

    async def _handle_generating_state(
        self, agent_data: AgentData, sampling_params: dict[str, Any], ignore_termination: bool = False
    ) -> AgentState:
        limits = {"max_tokens": self.max_turn_tokens, "logit_bias": self.suppressed}
        state = await super()._handle_generating_state(agent_data, sampling_params | limits, ignore_termination)
        text, _ = turn_text(self.tokenizer, agent_data.response_ids)
        agent_data.extra_fields.setdefault(TURNS, []).append(text)
        return state

    async def ct_merge_context_msg(
        self, previous_messages: list[dict[str, Any]], updated_messages: list[dict[str, Any]], *args: Any, **kwargs: Any
    ) -> Any:
        for message in updated_messages[len(previous_messages) :]:
            message["content"] = with_seconds(message["content"])
        return await super().ct_merge_context_msg(previous_messages, updated_messages, *args, **kwargs)

    async def _call_tool(
        self, tool_call: FunctionCall, tools_kwargs: dict[str, Any], agent_data: AgentData
    ) -> tuple[ToolResponse, float, dict[str, Any]]:
        if tool_call.name in self.tools:
            return await super()._call_tool(tool_call, tools_kwargs, agent_data)
        environment = environment_of(agent_data, self.tools["crop_video"])
        turn = agent_data.extra_fields[TURNS][-1]
        return await respond(agent_data, environment, partial(step, environment, turn)), 0.0, {}
