"""The rollout engine: exact against plain forwards and stock `generate`; ragged turns, several videos, failed calls."""

import numpy as np
import pytest
import torch

from medscope.agents.context import TokenSpan
from medscope.environment.dialogue import call_text, execute_call
from medscope.environment.environment import ClinicalVideoEnvironment
from medscope.agents.policy import Policy
from medscope.agents.rollout import Rollout, generate
from medscope.suite.tasks import questions as ask

GROUP = 3


def full_logps(policy: Policy, ids: list[int], images: list) -> torch.Tensor:
    """Log-probabilities [tokens - 1, vocabulary] of one plain forward over the whole dialogue, suppressed_tokens banned."""
    tokens = torch.tensor([ids])
    with torch.no_grad():
        logits = policy.model(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            mm_token_type_ids=(tokens == policy.image_token).int(),
            **policy.pixels(images),
        ).logits[0]
    logits[:, policy.suppressed_tokens] = -torch.inf
    return torch.log_softmax(logits, dim=-1)


def spoken_reference(policy: Policy, rollout: Rollout, piece: TokenSpan) -> list[float]:
    """The plain forward's log-probabilities of one assistant piece."""
    logps = full_logps(policy, rollout.prompt.ids + rollout.completion, rollout.prompt.images + rollout.images)
    before = 0
    for other in rollout.pieces:
        if other is piece:
            break
        before += len(other.ids)
    start = len(rollout.prompt.ids) + before
    return [logps[start + i - 1, token].item() for i, token in enumerate(piece.ids)]


@pytest.fixture
def recordings(operation, clip):
    return [operation, clip]


@pytest.fixture
def environments(recordings, store, tiny_budget):
    made = [ClinicalVideoEnvironment(store, tiny_budget) for _ in range(GROUP * len(recordings))]
    for i, environment in enumerate(made):
        environment.reset(path=recordings[i // GROUP].path)
    return made


def ragged_turns(count: int) -> list[str]:
    """First turns whose calls give different numbers of frames, one of them refused."""
    calls = [
        {"start_time": 1.0, "end_time": 3.0},
        {"start_time": 0.0, "end_time": 6.0},
        {"start_time": 5.0, "end_time": 2.0},  # refused: swapped
    ]
    return [f"<think>{'look ' * (i % 4)}</think>" + call_text("crop_video", calls[i % 3]) for i in range(count)]


def test_logps_of_ragged_groups_equal_a_plain_forward(policy, environments, recordings):
    torch.manual_seed(0)
    questions = ["What goes wrong in the staining?", "When does the incision take place?"]
    forced = ragged_turns(len(environments))
    rollouts = generate(
        policy, environments, questions, GROUP, temperature=1.0, max_turn_tokens=16, forced_turns=forced
    )
    assert len({len(r.completion) for r in rollouts}) > 1, "the test wants ragged rollouts"
    assert any(not r.environment._calls[0].executed for r in rollouts), "the test wants a failed call"
    for rollout in rollouts:
        reference = spoken_reference(policy, rollout, rollout.pieces[-1])
        np.testing.assert_allclose(rollout.logps, reference, atol=1e-4)


def test_greedy_equals_stock_generate(policy, environments, recordings):
    """Without tools in the way: the same tokens as transformers' own generate on every prompt."""
    rollouts = generate(
        policy, environments[::GROUP], ["What follows the incision?"] * len(recordings), max_turn_tokens=12
    )
    for rollout in rollouts:
        ids = torch.tensor([rollout.prompt.ids])
        stock = policy.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == policy.image_token).int(),
            **policy.pixels(rollout.prompt.images),
            max_new_tokens=12,
            do_sample=False,
            suppress_tokens=policy.suppressed_tokens,
        )[0, ids.shape[1] :].tolist()
        assert rollout.completion == stock[: len(rollout.completion)]


def test_unspoken_tokens_are_never_sampled(policy, environments, recordings):
    torch.manual_seed(1)
    rollouts = generate(policy, environments, ["?"] * len(recordings), GROUP, temperature=5.0, max_turn_tokens=40)
    assistant = {token for r in rollouts for piece in r.pieces if piece.assistant for token in piece.ids}
    assert not assistant & set(policy.suppressed_tokens)


def test_cached_features_do_not_change_a_rollout(policy, environments, recordings):
    plain = generate(policy, environments[::GROUP], ["?"] * len(recordings), max_turn_tokens=8)
    policy.cache_features = True
    try:
        for _ in range(2):  # filled, then used
            again = generate(policy, environments[::GROUP], ["?"] * len(recordings), max_turn_tokens=8)
            assert [r.completion for r in again] == [r.completion for r in plain]
    finally:
        policy.cache_features = False
        policy.forget_features()


def test_a_dialogue_without_end_stops_at_the_call_limit(policy, environments):
    """A model that calls for ever is answered with errors after the fifth call and then cut off."""
    environment = environments[0]
    turn = "<think>again</think>" + call_text("get_frame", {"timestamp": 1.0})
    answers = [execute_call(environment, turn) for _ in range(6)]
    assert [call.executed for call in environment._calls] == [True] * 5 + [False]
    assert "answer now" in answers[-1][0]["text"]


def test_number_of_environments_must_match(policy, environments):
    with pytest.raises(ValueError, match="need as many environments"):
        generate(policy, environments[:2], ["?"], group=3)


@pytest.mark.parametrize("seed", [0, 1])
def test_logps_equal_a_plain_forward_when_turns_end_at_different_tokens(caller, environments, recordings, seed):
    torch.manual_seed(seed)
    questions = [ask(recording, np.random.default_rng(0))[0].text for recording in recordings]
    rollouts = generate(caller, environments, questions, GROUP, temperature=1.0, max_turn_tokens=60)
    assert max(len(r.turns) for r in rollouts) > 1, "the test wants turns after a response"
    assert len({len(r.pieces[0].ids) for r in rollouts}) > 1, "the test wants turns of different length"
    for rollout in rollouts:
        assistant = [piece for piece in rollout.pieces if piece.assistant]
        reference = [logp for piece in assistant for logp in spoken_reference(caller, rollout, piece)]
        np.testing.assert_allclose(rollout.logps, reference, atol=1e-4)


def test_without_tools_a_call_is_not_executed_and_ends_the_dialogue(caller, environments, recordings):
    questions = [ask(recording, np.random.default_rng(0))[0].text for recording in recordings]
    forced = ragged_turns(len(recordings))
    for tools, calls in ((True, 1), (False, 0)):
        for environment, recording in zip(environments[::GROUP], recordings, strict=True):
            environment.reset(path=recording.path)
        rollouts = generate(
            caller, environments[::GROUP], questions, tools=tools, max_turn_tokens=8, forced_turns=forced
        )
        assert all(len(r.environment._calls) >= calls and len(r.turns) >= 1 + calls for r in rollouts)
        assert tools or all(not r.environment._calls and len(r.turns) == 1 for r in rollouts)
