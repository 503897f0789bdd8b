"""The two tools as verl's stateful tools. Their calls are recorded in the dialogue, where the reward finds them.

verl makes a tool once per worker and calls `execute` with the dialogue (`agent_data`). The video of a dialogue comes
from its data row (`tools_kwargs`), the budget from the tool file. A response holds the frames, then all their seconds:
verl puts the images of a response before its text (our agent loop puts them in order again).
"""

import asyncio
from functools import cache
from typing import Any

from pydantic import TypeAdapter
from verl.experimental.agent_loop.tool_agent_loop import AgentData
from verl.tools.base_tool import BaseTool
from verl.tools.schemas import ToolResponse

from medscope.environment import ClinicalVideoEnvironment, FrameStore, ToolBudget, ToolError
from medscope.environment.environment import Blocks, error_blocks
from medscope.records import ToolCall

CALLS, FAILURE = "medscope_calls", "medscope_failure"  # fields of a dialogue that the reward reads
_ENVIRONMENT = "medscope_environment"
_RECORDS = TypeAdapter(list[ToolCall])


class VideoTool(BaseTool):
    """A tool of the environment, under the name that its schema says."""

    async def execute(
        self, instance_id: str, parameters: dict[str, Any], *, agent_data: AgentData, **_: Any
    ) -> tuple[ToolResponse, float, dict[str, Any]]:
        """Run the call in the environment of the dialogue. A refused call is answered with the reason."""
        environment = environment_of(agent_data, self)

        def call() -> Blocks:
            try:
                return environment._execute(self.name, parameters)
            except ToolError as error:
                return error_blocks(str(error))

        return await respond(agent_data, environment, call), 0.0, {}


def environment_of(agent_data: AgentData, tool: VideoTool) -> ClinicalVideoEnvironment:
    """The environment of a dialogue: opened with its first call, kept to its end."""
    environment = getattr(agent_data, _ENVIRONMENT, None)
    if environment is None:
        environment = ClinicalVideoEnvironment(_store(tool.config["decoder"]), ToolBudget(**tool.config["budget"]))
        environment.reset(path=agent_data.tools_kwargs[tool.name]["create_kwargs"]["path"])
        setattr(agent_data, _ENVIRONMENT, environment)
    return environment


async def respond(agent_data: AgentData, environment: ClinicalVideoEnvironment, call: Any) -> ToolResponse:
    """Run `call` (returns blocks) beside the event loop, and record what the environment has executed so far.

    verl would show the model any other error as text and go on; it is noted, so that the reward raises it.
    """
    try:
        blocks = await asyncio.get_running_loop().run_in_executor(None, call)
    except Exception as error:
        agent_data.extra_fields[FAILURE] = repr(error)
        raise
    agent_data.extra_fields[CALLS] = _RECORDS.dump_python(environment.trace.calls, mode="json")
    return response_of(blocks)


def recorded_calls(fields: dict[str, Any]) -> list[ToolCall]:
    """The calls of a dialogue from its recorded fields, none if it made none."""
    return _RECORDS.validate_python(fields.get(CALLS, []))


def response_of(blocks: Blocks) -> ToolResponse:
    """Images first, then all texts (the seconds, in the same order) in one."""
    text = "".join(block["text"] for block in blocks if block["type"] == "text")
    images = [block["image"] for block in blocks if block["type"] == "image"]
    return ToolResponse(text=text, image=images) if images else ToolResponse(text=text)


@cache
def _store(decoder: str) -> FrameStore:
    """One store of frames for all dialogues of a worker."""
    return FrameStore(decoder)
