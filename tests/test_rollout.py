"""The rollout engine: exact against plain forwards and stock `generate`; ragged turns, limits, errors, budgets."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from flat import LANGUAGE
from plain_forward import plain_logps

from medscope.agents.lengths import fitting_tasks
from medscope.agents.policy import Policy, tiny_policy
from medscope.agents.rollout import Rollout, generate
from medscope.environment import ClinicalVideoEnvironment, FrameStore, ToolBudget, VideoError
from medscope.environment.grammar import call_text
from medscope.records import Trajectory
from medscope.suite.tasks import closed_tasks
from medscope.training.examples import collate, trajectory_example

GROUP = 3


def assistant_tokens(rollouts: list[Rollout]) -> set[int]:
    return {token for r in rollouts for span in r.spans if span.assistant for token in span.ids}


@pytest.fixture
def tasks(operation, clip):
    """One task on each of two videos."""
    return [closed_tasks(recording, LANGUAGE, np.random.default_rng(0))[0] for recording in (operation, clip)]


@pytest.fixture
def environments(tasks, store, tiny_budget):
    return [ClinicalVideoEnvironment(store, tiny_budget) for _ in range(GROUP * len(tasks))]


def ragged_turns(count: int) -> list[list[str]]:
    """First turns whose calls give different numbers of frames, one of them refused."""
    calls = [
        {"start_time": 1.0, "end_time": 3.0},
        {"start_time": 0.0, "end_time": 6.0},
        {"start_time": 5.0, "end_time": 2.0},  # refused: swapped
    ]
    return [[f"<think>{'look ' * (i % 4)}</think>" + call_text("crop_video", calls[i % 3])] for i in range(count)]


def test_logps_of_ragged_groups_equal_a_plain_forward(policy, environments, tasks):
    torch.manual_seed(0)
    forced = ragged_turns(len(environments))
    rollouts = generate(policy, tasks, environments, GROUP, temperature=1.0, max_turn_tokens=16, forced_turns=forced)
    assert len({len(r.completion) for r in rollouts}) > 1, "the test wants ragged rollouts"
    assert any(not r.trace.calls[0].executed for r in rollouts), "the test wants a failed call"
    for rollout in rollouts:
        np.testing.assert_allclose(rollout.logps, plain_logps(policy, rollout, first_span=1), atol=1e-4)


def test_any_number_of_first_turns_can_be_given(caller, environments, tasks):
    """None, one and two; what follows is as if the model had written them."""
    given = [[turn for [turn] in ragged_turns(number % 3)] for number in range(len(tasks) * GROUP)]
    rollouts = generate(caller, tasks, environments, GROUP, max_turn_tokens=40, forced_turns=given)
    for rollout, turns in zip(rollouts, given, strict=True):
        assert rollout.turns[: len(turns)] == turns and len(rollout.turns) > len(turns)
        np.testing.assert_allclose(rollout.logps, plain_logps(caller, rollout, first_span=2 * len(turns)), atol=1e-4)
    assert {len(turns) for turns in given} == {0, 1, 2}


def test_given_turns_are_lists_of_turns(policy, environments, tasks):
    with pytest.raises(ValueError, match="a list of turns for every rollout; '<think>look"):
        generate(policy, tasks, environments, GROUP, forced_turns=["<think>look</think>"] * len(environments))


def stock_greedy(policy: Policy, rollout: Rollout, count: int) -> list[int]:
    """What transformers' own `generate` says to the same prompt."""
    ids = torch.tensor([rollout.prompt.ids])
    return policy.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == policy.image_token).int(),
        **policy.pixels(rollout.prompt.images),
        max_new_tokens=count,
        do_sample=False,
        suppress_tokens=policy.suppressed_tokens,
    )[0, ids.shape[1] :].tolist()


def test_greedy_equals_stock_generate(policy, caller, environments, tasks):
    """The same tokens, all of them: turns cut at 12 tokens, and turns that end of themselves."""
    for model, most, ended in ((policy, 12, False), (caller, 60, True)):
        for rollout in generate(model, tasks, environments[::GROUP], tools=False, max_turn_tokens=most):
            assert rollout.completion and rollout.completion == stock_greedy(model, rollout, most)
            assert ended == (rollout.completion[-1] == model.turn_end), "the test wants both kinds of turns"


def test_suppressed_tokens_are_never_sampled(policy, environments, tasks):
    torch.manual_seed(1)
    rollouts = generate(policy, tasks, environments, GROUP, temperature=5.0, max_turn_tokens=40)
    assert not assistant_tokens(rollouts) & set(policy.suppressed_tokens)


def test_cached_features_do_not_change_a_rollout(policy, environments, tasks):
    plain = generate(policy, tasks, environments[::GROUP], max_turn_tokens=8)
    policy.cache_features = True
    try:
        for _ in range(2):  # filled, then used
            again = generate(policy, tasks, environments[::GROUP], max_turn_tokens=8)
            assert [r.completion for r in again] == [r.completion for r in plain]
    finally:
        policy.cache_features = False
        policy.forget_features()


@pytest.fixture(scope="module")
def caller_without_end(operation, store):
    """A policy that has learned one thing: the same call after everything, errors too. Its budget allows two calls."""
    policy, budget = tiny_policy(), ToolBudget(max_calls=2, skim_frames=4, skim_pixels=784, frame_pixels=784)
    environment = ClinicalVideoEnvironment(store, budget)
    task = closed_tasks(operation, LANGUAGE, np.random.default_rng(0))[0]
    turn = call_text("get_frame", {"timestamp": 1.0})
    batch = collate(policy, [trajectory_example(policy, Trajectory(task, (turn,) * 4), environment)])
    optimiser = torch.optim.AdamW(policy.model.parameters(), lr=3e-3)
    for _ in range(40):
        policy.model(**batch).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return policy, environment, task, turn


def test_a_dialogue_without_end_stops_at_the_call_limit(caller_without_end):
    """Two calls are executed, the third is answered with advice, the fourth turn is the last: its call is not read."""
    policy, environment, task, turn = caller_without_end
    rollout = generate(policy, [task], [environment], max_turn_tokens=60)[0]
    assert rollout.turns == [turn] * 4
    assert [call.executed for call in rollout.trace.calls] == [True, True, False]
    assert "answer now" in policy.tokenizer.decode(rollout.spans[-2].ids)


def test_number_of_environments_must_match(policy, tasks, environments):
    with pytest.raises(ValueError, match="1 tasks x 3 generations need as many environments, not 2"):
        generate(policy, tasks[:1], environments[:2], num_generations=3)


@pytest.mark.parametrize("seed", [0, 1])
def test_logps_equal_a_plain_forward_when_turns_end_at_different_tokens(caller, environments, tasks, seed):
    torch.manual_seed(seed)
    rollouts = generate(caller, tasks, environments, GROUP, temperature=1.0, max_turn_tokens=60)
    assert max(len(r.turns) for r in rollouts) > 1, "the test wants turns after a response"
    assert len({len(r.spans[0].ids) for r in rollouts}) > 1, "the test wants turns of different length"
    for rollout in rollouts:
        np.testing.assert_allclose(rollout.logps, plain_logps(caller, rollout), atol=1e-4)


def test_without_tools_a_call_is_not_executed_and_ends_the_dialogue(caller, environments, tasks):
    forced = ragged_turns(len(tasks))
    for tools, calls in ((True, 1), (False, 0)):
        rollouts = generate(caller, tasks, environments[::GROUP], tools=tools, max_turn_tokens=8, forced_turns=forced)
        assert all(len(r.trace.calls) >= calls and len(r.turns) >= 1 + calls for r in rollouts)
        assert tools or all(not r.trace.calls and len(r.turns) == 1 for r in rollouts)


def test_a_rollout_keeps_its_trace_when_its_environment_serves_another_task(policy, environments, tasks):
    first, second = (
        generate(policy, [task], environments[:1], max_turn_tokens=4, forced_turns=ragged_turns(1))[0] for task in tasks
    )
    assert first.trace is not second.trace and first.trace.calls[0].executed
    assert (first.task, second.task) == tuple(tasks)


def test_the_mode_of_the_model_is_as_before_even_after_an_error(policy, environments, tasks, tmp_path):
    broken = replace(tasks[0], path=str(tmp_path / "gone.mp4"))
    policy.model.train()
    try:
        with pytest.raises(VideoError):
            generate(policy, [broken], environments[:1])
        assert policy.model.training
        with pytest.raises(ValueError, match="shorter"):  # an error while the model speaks
            generate(policy, tasks, environments[:2], max_turn_tokens=4, forced_turns=[["<think>"]])
        assert policy.model.training
    finally:
        policy.model.eval()


def with_budgets(policy: Policy, **bytes_) -> Policy:
    return Policy(policy.model, policy.processor, **bytes_)


@pytest.mark.parametrize(
    "small",
    [{"activation_bytes": 1 << 16}, {"activation_bytes": 1 << 12}, {"cache_bytes": 1}],
    ids=["few tokens at once", "one token at once", "one task at once"],
)
def test_small_budgets_change_nothing_but_memory(caller, environments, tasks, small):
    """Vision tower, prompts and responses in slices, tasks one by one: the same turns, log-probabilities to 1e-4."""
    tight = with_budgets(caller, **small)
    forced = ragged_turns(len(environments))
    whole, cut = (
        generate(p, tasks, environments, GROUP, max_turn_tokens=60, forced_turns=forced) for p in (caller, tight)
    )
    for rollout, other in zip(cut, whole, strict=True):
        assert rollout.turns == other.turns and rollout.completion == other.completion
        np.testing.assert_allclose(rollout.logps, other.logps, atol=1e-4)


def sizes_of_forwards(policy: Policy, run) -> tuple[int, int]:
    """The most tokens that the language model read at once, and the most visual tokens of the vision tower."""
    tokens, patches = [], []
    hooks = [
        policy.base.model.language_model.register_forward_pre_hook(
            lambda _, args, kwargs: tokens.append(kwargs["inputs_embeds"].shape[:2].numel()), with_kwargs=True
        ),
        policy.base.model.visual.register_forward_pre_hook(
            lambda _, args, kwargs: patches.append(len(args[0] if args else kwargs["hidden_states"])), with_kwargs=True
        ),
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return max(tokens), max(patches) // 4


def test_no_forward_reads_more_than_its_budget(policy, environments, tasks):
    tight = with_budgets(policy, activation_bytes=1 << 17)
    forced = ragged_turns(len(environments))

    def run(p):
        return lambda: generate(p, tasks, environments, GROUP, max_turn_tokens=4, forced_turns=forced)

    free, bound = (sizes_of_forwards(p, run(p)) for p in (policy, tight))
    assert free[0] > tight.prefill_tokens and free[1] > tight.vision_tokens, "the test wants budgets that bind"
    assert bound[0] <= tight.prefill_tokens and bound[1] <= tight.vision_tokens


def test_a_response_that_the_context_cannot_hold_is_refused(caller, tasks, store, tiny_budget):
    """The response fits to the token, or is replaced by advice: the call is then no look, and earns nothing."""
    crop = "<think></think>" + call_text("crop_video", {"start_time": 0.0, "end_time": 8.0})
    budget = replace(tiny_budget, crop_pixels=36 * 784)

    def rolled(context_tokens):
        environment = ClinicalVideoEnvironment(store, replace(budget, context_tokens=context_tokens))
        return generate(caller, tasks[:1], [environment], max_turn_tokens=20, forced_turns=[[crop]])[0]

    free = rolled(4096)
    exact = len(free.prompt.ids) + sum(len(span.ids) for span in free.spans[:2]) + 20
    for tokens, executed in ((exact, True), (exact - 1, False)):
        rollout = rolled(tokens)
        assert len(rollout.prompt.ids) + len(rollout.completion) <= tokens
        assert rollout.trace.calls[0].executed == executed
        assert len(rollout.spans[1].images) == (8 if executed else 0)
        told = caller.tokenizer.decode(rollout.spans[1].ids)
        assert ("crop a shorter window, or answer now" in told) == (not executed)
    assert rollout.trace.window is None and rollout.trace.calls[0].message in told


def test_a_dialogue_ends_where_not_even_an_error_fits(caller, environments, tasks, store, tiny_budget):
    crop = "<think></think>" + call_text("crop_video", {"start_time": 0.0, "end_time": 8.0})
    prompt = len(generate(caller, tasks[:1], environments[:1], max_turn_tokens=1)[0].prompt.ids)
    environment = ClinicalVideoEnvironment(store, replace(tiny_budget, context_tokens=prompt + 20))
    rollout = generate(caller, tasks[:1], [environment], max_turn_tokens=20, forced_turns=[[crop]])[0]
    assert rollout.turns == [crop] and [call.executed for call in rollout.trace.calls] == [False]


@pytest.mark.parametrize("context_tokens", [60, 1 << 20], ids=["of the budget", "of the model"])
def test_a_prompt_beyond_the_context_is_refused_with_the_fix(policy, tasks, store, tiny_budget, context_tokens):
    """The tiny model has 4096 positions, whatever the budget says."""
    budget = replace(tiny_budget, context_tokens=context_tokens, max_turn_tokens=4090 if context_tokens > 60 else 30)
    with pytest.raises(ValueError, match=rf"video {tasks[0].video}: the prompt has \d+ tokens .* lower skim_frames"):
        generate(policy, tasks[:1], [ClinicalVideoEnvironment(store, budget)])


def test_tasks_whose_prompt_is_too_long_are_counted_and_left_out(policy, tasks, store, tiny_budget, capsys):
    longer = [replace(tasks[0], id=f"long{i}", question="When is the knot tied? " * 9) for i in range(2)]
    mixed = [longer[0], *tasks, longer[1]]
    assert fitting_tasks(policy, mixed, FrameStore("none"), tiny_budget) == mixed, "opened a video for nothing"
    environments = [ClinicalVideoEnvironment(store, tiny_budget) for _ in tasks]
    prompts = [len(r.prompt.ids) for r in generate(policy, tasks, environments, max_turn_tokens=1)]
    limit = replace(tiny_budget, context_tokens=max(prompts) + tiny_budget.max_turn_tokens)
    assert fitting_tasks(policy, mixed, store, limit) == list(tasks)
    assert capsys.readouterr().out == f"2 of {len(mixed)} tasks left out: prompts of more than {max(prompts)} tokens\n"
    generate(policy, tasks, [ClinicalVideoEnvironment(store, limit) for _ in tasks])
    with pytest.raises(ValueError, match=r"no prompt of 2 tasks fits \d+ tokens; lower skim_frames"):
        fitting_tasks(policy, longer, store, limit)


def test_in_bfloat16_sampling_and_a_plain_forward_agree(operation, clip, store, tiny_budget):
    """Sharpened weights: queries and keys four times as large, scores sixteen times. With scores that are rounded to
    bfloat16 before the softmax the mean difference is .034."""
    policy = tiny_policy()
    with torch.no_grad():
        for name, weights in policy.base.model.language_model.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                weights.mul_(4)
    policy.model.to(torch.bfloat16)
    tasks = [closed_tasks(recording, LANGUAGE, np.random.default_rng(0))[0] for recording in (operation, clip)]
    environments = [ClinicalVideoEnvironment(store, tiny_budget) for _ in range(2 * 8)]
    torch.manual_seed(0)
    rollouts = generate(policy, tasks, environments, 8, temperature=1.0, max_turn_tokens=32)
    differences = [np.abs(np.subtract(r.logps, plain_logps(policy, r))) for r in rollouts]
    assert np.concatenate(differences).mean() <= 0.01


def test_a_span_that_the_model_did_not_write_is_masked(policy, environments, tasks):
    rollout = generate(policy, tasks[:1], environments[:1], max_turn_tokens=4, forced_turns=ragged_turns(1))[0]
    written, response, spoken = (len(span.ids) for span in rollout.spans)
    assert rollout.assistant_mask == [True] * written + [False] * response + [True] * spoken
    assert min(written, response, spoken) > 0 and len(rollout.completion) == written + response + spoken
