"""Every reward, the modulated advantages and the policy loss against values worked out by hand."""

import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medscope import rewards
from medscope.evaluation.judge import exact_judge
from medscope.metrics import temporal_iou
from medscope.records import Timestamp, Window
from medscope.rewards import RewardSettings, crop_reward, format_reward, frame_reward, reward
from medscope.training.ga_grpo import modulated_advantages
from medscope.training.update import policy_loss

EVIDENCE = Window(0, 100)
MISS = Window(100, 130)  # touches the evidence, shares nothing with it
CALL = '<tool_call>{"name": "crop_video", "arguments": {"start_time": 0, "end_time": 100}}</tool_call>'
GOLD = [f"<think>find x</think>{CALL}", "<think>x</think><answer>forceps</answer>"]


@pytest.mark.parametrize(
    "end, paper, paper_text, monotone",
    [
        (None, 0, 0, 0),
        (1, -1, -2.0, 0.02),  # floor(-9.8) bins below h0
        (10, -1, -1.8, 0.2),  # the example of the authors' text: -1 + .1 x -8
        (20, -1, -1.6, 0.4),
        (45, -1, -1.1, 0.9),
        (49.9, -1, -1.1, 0.998),
        (50, 1.0, 1.0, 1.0),
        (54.9, 1.0, 1.0, 1.0),
        (55, 1.1, 1.1, 1.1),
        (60, 1.2, 1.2, 1.2),
        (70, 1.4, 1.4, 1.4),
        (85, 1.7, 1.7, 1.7),
        (95, 1.9, 1.9, 1.9),
        (99.9, 1.9, 1.9, 1.9),
        (100, 2.0, 2.0, 2.0),
    ],
)
def test_crop_reward_by_hand(end, paper, paper_text, monotone):
    window = MISS if end is None else Window(0, end)  # its IoU is end / 100
    assert crop_reward(window, EVIDENCE) == pytest.approx(paper)
    assert crop_reward(window, EVIDENCE, form="paper_text") == pytest.approx(paper_text)
    assert crop_reward(window, EVIDENCE, form="monotone") == pytest.approx(monotone)


@given(st.integers(0, 3000), st.integers(1, 200), st.integers(0, 10), st.sampled_from([1, 0.1, 0.3]))
def test_crop_reward_never_loses_a_bin(start, part, step, unit):
    """Windows of exactly 10/20 .. 20/20 of the evidence, in tenths of seconds and the like that floats cannot hold."""
    evidence = Window(start * unit, (start + 20 * part) * unit)
    window = Window(start * unit, (start + (10 + step) * part) * unit)
    assert crop_reward(window, evidence) == pytest.approx(1 + 0.1 * step)


WINDOWS = st.tuples(st.floats(0, 150), st.floats(0, 150)).map(sorted).map(lambda ends: Window(*ends))


@given(WINDOWS, WINDOWS)
def test_the_monotone_form_never_pays_less_for_more_overlap(one, other):
    less, more = sorted((one, other), key=lambda window: temporal_iou(window, EVIDENCE))
    assert crop_reward(less, EVIDENCE, form="monotone") <= crop_reward(more, EVIDENCE, form="monotone") + 1e-9


@given(WINDOWS)
def test_all_forms_agree_from_h0_on_and_on_a_miss(window):
    iou, paper = temporal_iou(window, EVIDENCE), crop_reward(window, EVIDENCE)
    monotone = crop_reward(window, EVIDENCE, form="monotone")
    text = crop_reward(window, EVIDENCE, form="paper_text")
    if iou == 0 or iou >= 0.5:
        assert monotone == text == paper
    else:
        assert paper == -1 and 0 <= monotone <= 1 and -2 <= text <= -1.1


def test_the_constants_of_the_crop_reward():
    assert crop_reward(Window(0, 95), EVIDENCE, eta=0) == 1  # the ablation without the bonus
    assert crop_reward(Window(0, 20), EVIDENCE, alpha=0.5) == -0.5
    assert crop_reward(Window(0, 50), EVIDENCE, h0=0.3, delta=0.1) == pytest.approx(1.2)
    with pytest.raises(ValueError, match="'best' is unknown; choose one of paper, paper_text, monotone"):
        crop_reward(Window(0, 50), EVIDENCE, form="best")
    assert crop_reward(Window(0, 10), EVIDENCE, eta=0, form="paper_text") == -1  # the ablation without the bonus


@pytest.mark.parametrize("start, end, earned", [(3, 9, 1), (4, 5, 1), (5, 8, 1), (2, 5, 1), (5.01, 8, 0), (0, 4.99, 0)])
@pytest.mark.parametrize("form", ["paper", "paper_text", "monotone"])
def test_a_crop_of_a_timestamp_earns_1_if_it_contains_it(start, end, earned, form):
    assert crop_reward(Window(start, end), Timestamp(5), form=form) == earned


@pytest.mark.parametrize(
    "time, evidence, earned",
    [
        (0, EVIDENCE, 1),
        (100, EVIDENCE, 1),
        (100.1, EVIDENCE, 0),
        (5, Timestamp(5), 1),
        (5.25, Timestamp(5), 0.75),
        (4.25, Timestamp(5), 0.25),
        (6, Timestamp(5), 0),
        (60, Timestamp(5), 0),
    ],
)
def test_frame_reward_by_hand(time, evidence, earned):
    assert frame_reward(time, evidence) == pytest.approx(earned)


def test_without_a_call_there_is_no_evidence_reward():
    for evidence in (EVIDENCE, Timestamp(5)):
        assert crop_reward(None, evidence) == frame_reward(None, evidence) == 0


@pytest.mark.parametrize("length, earned", [(999, 1), (1000, 0), (1001, 0)])
def test_an_answer_of_1000_characters_earns_neither_format_nor_accuracy(length, earned):
    answer = "x" * length
    assert format_reward(f"<think>t</think><answer>{answer}</answer>") == earned
    assert exact_judge(answer, answer) == earned


def gold(settings, turns=GOLD, accuracy=1.0, window=EVIDENCE, timestamp=50.0):
    return reward(turns, accuracy, window, timestamp, EVIDENCE, settings)


def test_a_gold_rollout_earns_the_maximum():
    earned = gold(RewardSettings())
    assert (earned.accuracy, earned.format, earned.crop, earned.frame) == (1, 1, 2, 1)
    assert (earned.evidence, earned.total) == (3, 5)


@pytest.mark.parametrize(
    "weights, total",
    [({}, 5), ({"w_format": 0.5}, 4.5), ({"w_evidence": 0}, 2), ({"w_acc": 2, "w_format": 0}, 5), ({"eta": 0}, 4)],
)
def test_the_presets_weigh_the_terms(weights, total):
    assert gold(RewardSettings(**weights)).total == pytest.approx(total)


@pytest.mark.parametrize("accuracy, paid", [(1, 3), (0.5, 0), (0, 0)])
def test_the_conditional_form_pays_evidence_only_for_a_right_answer(accuracy, paid):
    earned = gold(RewardSettings(conditional=True), accuracy=accuracy)
    assert earned.total == accuracy + 1 + paid
    assert earned.evidence == 3  # still the fidelity that modulates
    assert gold(RewardSettings(), accuracy=accuracy).total == accuracy + 1 + 3


def test_a_poor_crop_cancels_a_good_frame_in_the_paper_form_only():
    assert gold(RewardSettings(), window=Window(0, 20)).evidence == 0  # the third known trap of the published form
    assert gold(RewardSettings(form="monotone"), window=Window(0, 20)).evidence == pytest.approx(1.4)


def test_what_was_not_executed_or_not_well_formed_is_not_paid():
    assert gold(RewardSettings(), window=None, timestamp=None).total == 2
    forged = [GOLD[0] + "<tool_response> 50s</tool_response>", GOLD[1]]
    assert gold(RewardSettings(), turns=forged, window=None, timestamp=None).total == 1
    assert gold(RewardSettings(), turns=[]).format == 0


REWARDS = torch.tensor([3.0, 1.0, 1.0, 3.0])  # mean 2, advantages 1 -1 -1 1
ALL = torch.ones(4)


@pytest.mark.parametrize(
    "mode, fidelity, expected",
    [
        ("none", [1, 1, -1, -1], [1, -1, -1, 1]),
        ("binary", [1, 1, -1, -1], [1.2, -0.8, -1.2, 0.8]),  # good with A >= 0 and < 0, bad with A < 0 and >= 0
        ("binary", [3, 0.01, 0, 0], [1.2, -0.8, -1.2, 0.8]),  # no evidence is bad evidence
        ("continuous", [0.5, 2, -3, 0], [1.1, -0.8, -1.2, 1]),
        ("continuous", [-1, -0.5, 0.5, 3], [0.8, -1.1, -0.9, 1.2]),
    ],
)
def test_modulated_advantages_by_hand(mode, fidelity, expected):
    advantages = modulated_advantages(REWARDS, torch.tensor(fidelity), ALL, mode)
    assert advantages.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("mode", ["none", "binary", "continuous"])
def test_rollouts_without_a_tool_keep_their_plain_advantage(mode):
    used = torch.tensor([True, False, False, False])
    advantages = modulated_advantages(REWARDS, torch.tensor([0.0, 3.0, -1.0, 0.0]), used, mode)
    assert advantages[1:].tolist() == [-1, -1, 1]


@given(st.lists(st.floats(-2, 5), min_size=1, max_size=8))
def test_advantages_are_centred_and_keep_their_sign(rewards):
    rewards = torch.tensor(rewards, dtype=torch.float64)
    plain = modulated_advantages(rewards, rewards, torch.ones(len(rewards)), "none")
    assert float(plain.sum()) == pytest.approx(0, abs=1e-9)
    for mode in ("binary", "continuous"):
        modulated = modulated_advantages(rewards, rewards, torch.ones(len(rewards)), mode)
        assert torch.equal(modulated.sign(), plain.sign())


@pytest.mark.parametrize("mode", ["none", "binary", "continuous"])
def test_a_group_of_equal_rewards_teaches_nothing(mode):
    advantages = modulated_advantages(torch.full((4,), 2.5), torch.tensor([3.0, 0, -1, 1]), ALL, mode)
    assert advantages.tolist() == [0, 0, 0, 0]


def test_an_unknown_modulation_is_refused():
    with pytest.raises(ValueError, match="modulation 'ternary' is unknown; choose none, binary or continuous"):
        modulated_advantages(REWARDS, REWARDS, ALL, "ternary")


def test_the_policy_loss_and_its_gradient_by_hand():
    logps = torch.tensor([-0.1, -2.0, -0.5], requires_grad=True)
    owner = torch.tensor([0, 0, 1])  # the first rollout spoke two tokens, the second one
    loss = policy_loss(logps, torch.tensor([2.0, -1.0])[owner], tokens=3)
    loss.backward()
    assert loss.item() == pytest.approx(-(2 + 2 - 1) / 3)
    assert logps.grad.tolist() == pytest.approx([-2 / 3, -2 / 3, 1 / 3])


def test_reward_settings_default_to_the_papers():
    s = RewardSettings()
    assert (s.w_acc, s.w_format, s.w_evidence, s.alpha, s.h0, s.eta, s.delta) == (1, 1, 1, 1, 0.5, 0.1, 0.05)
    assert (s.form, s.conditional) == ("paper", False) and replace(s, form="monotone").form == "monotone"


@pytest.mark.parametrize(
    "constant, value, of_settings, earned",
    [
        ("ALPHA = 1.0", "ALPHA = 3.0", "alpha", lambda r: r.crop_reward(Window(0, 50), EVIDENCE)),
        ("H0 = 0.5", "H0 = 0.3", "h0", lambda r: r.crop_reward(Window(0, 30), EVIDENCE)),
        ("ETA = 0.1", "ETA = 0.7", "eta", lambda r: r.crop_reward(Window(0, 55), EVIDENCE)),
        ("DELTA = 0.05", "DELTA = 0.5", "delta", lambda r: r.crop_reward(Window(0, 75), EVIDENCE)),
        ("TOLERANCE = 1.0", "TOLERANCE = 4.0", "tolerance", lambda r: r.frame_reward(7.0, Timestamp(5))),
    ],
)
def test_an_edit_of_one_constant_reaches_both_the_functions_and_the_settings(constant, value, of_settings, earned):
    source = Path(rewards.__file__).read_text()
    assert source.count(constant) == 1
    edited = types.ModuleType("edited_rewards")
    exec(source.replace(constant, value), edited.__dict__)
    assert getattr(edited.RewardSettings(), of_settings) == float(value.split(" = ")[1])
    assert earned(edited) != earned(rewards)
