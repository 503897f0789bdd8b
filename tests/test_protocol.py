"""An episode: what an agent sees, when it ends, and that its limits are those of `generate`."""

from dataclasses import dataclass, field

import pytest
from PIL import Image

from medscope.agents.protocol import run_episode
from medscope.agents.rollout import generate
from medscope.environment import ClinicalVideoEnvironment, VideoError
from medscope.environment.grammar import call_text
from medscope.records import Task, Text, Timestamp, Window

CROP = "<think>look</think>" + call_text("crop_video", {"start_time": 1, "end_time": 4})
SWAPPED = "<think>look</think>" + call_text("crop_video", {"start_time": 4, "end_time": 1})
ANSWER = "<think>seen</think><answer>yes</answer>"


@dataclass
class Recited:
    """An agent that says the turns it was given, the last one for ever, and keeps what it was shown."""

    turns: list[str]
    seen: list[list[dict]] = field(default_factory=list)

    def next_turn(self, messages):
        self.seen.append(messages)
        return self.turns[min(len(self.seen), len(self.turns)) - 1]


@pytest.fixture
def task(operation):
    return Task("a:0", "a", operation.path, "When?", Text("yes"), Timestamp(1.0), "grounding", "rl", "recordings")


@pytest.fixture
def fresh(store, tiny_budget):
    """An environment that has seen no video yet."""
    return ClinicalVideoEnvironment(store, tiny_budget)


def test_an_agent_sees_the_skim_then_every_response(task, fresh, tiny_budget):
    agent = Recited([CROP, SWAPPED, ANSWER])
    trajectory = run_episode(agent, task, fresh)
    assert trajectory.turns == (CROP, SWAPPED, ANSWER) and trajectory.task == task and trajectory.tools
    assert [call.looked for call in trajectory.calls] == [Window(1, 4), None]
    assert [len(messages) for messages in agent.seen] == [2, 4, 6]
    last = agent.seen[-1]
    assert [message["role"] for message in last] == ["system", "user", "assistant", "tool", "assistant", "tool"]
    assert last[1]["content"][-1]["text"] == "\nWhen? Look closely first."
    frames = [sum(b["type"] == "image" for b in message["content"]) for message in (last[1], last[3])]
    assert frames == [tiny_budget.skim_frames, 3]  # 1 frame a second from 1 to 4 s
    assert isinstance(last[3]["content"][0]["image"], Image.Image)
    assert last[5]["content"] == [{"type": "text", "text": "error: end_time 1 is before start_time 4; swap them"}]


def test_without_tools_a_call_is_not_executed_and_ends_the_episode(task, fresh):
    trajectory = run_episode(Recited([CROP]), task, fresh, tools=False)
    assert trajectory.turns == (CROP,) and trajectory.calls == () and not trajectory.tools


def test_an_agent_that_calls_for_ever_is_cut_off_as_a_rollout_is(task, fresh, tiny_budget):
    """Five calls, one that is refused with advice, and one turn more: the same as `generate` (see test_rollout)."""
    trajectory = run_episode(Recited([CROP]), task, fresh)
    assert len(trajectory.turns) == tiny_budget.max_calls + 2
    assert [call.executed for call in trajectory.calls] == [True] * tiny_budget.max_calls + [False]


def test_a_second_episode_forgets_the_first(task, fresh):
    run_episode(Recited([CROP, ANSWER]), task, fresh)
    assert run_episode(Recited([ANSWER]), task, fresh).calls == ()


def test_a_missing_video_is_an_error_that_names_it(task, fresh, tmp_path):
    gone = Task("b:0", "b", str(tmp_path / "gone.mp4"), "?", Text("x"), Timestamp(1.0), "grounding", "rl", "recordings")
    with pytest.raises(VideoError, match=r"gone\.mp4: no such video file"):
        run_episode(Recited([ANSWER]), gone, fresh)


def test_an_episode_and_a_rollout_of_the_same_turn_look_at_the_same(task, fresh, policy, store, tiny_budget):
    """The record of a rollout whose first turn is written equals that of an episode, frame by frame."""
    rollout = generate(
        policy, [task], [ClinicalVideoEnvironment(store, tiny_budget)], max_turn_tokens=4, forced_turns=[[CROP]]
    )[0]
    assert rollout.trace.calls[:1] == list(run_episode(Recited([CROP, ANSWER]), task, fresh).calls)
