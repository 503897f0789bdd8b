"""Intervals over seeds and videos, families of tests, equivalence, pass@k: by hand, and by simulated coverage."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medscope.evaluation.statistics import (
    bootstrap_interval,
    combined,
    equivalence_bound,
    hierarchical,
    holm,
    pass_at_k,
)


def simulated(rng, seeds, videos, tasks, seed_sd, video_sd, noise_sd, effect=0.0):
    """Differences [seeds, videos * tasks] with this spread of seeds, videos (shared by the seeds) and answers."""
    shape = (seeds, videos, tasks)
    values = effect + rng.normal(0, noise_sd, shape)
    values += rng.normal(0, seed_sd, (seeds, 1, 1)) + rng.normal(0, video_sd, (1, videos, 1))
    return values.reshape(seeds, -1), np.repeat(np.arange(videos), tasks).tolist()


def coverage(seed_sd, video_sd, interval, trials=300, seeds=5):
    rng = np.random.default_rng(0)
    found = [interval(*simulated(rng, seeds, 20, 3, seed_sd, video_sd, 0.3, effect=0.1)) for _ in range(trials)]
    return np.mean([low <= 0.1 <= high for low, high in found])


@pytest.mark.parametrize("seed_sd, video_sd", [(0.1, 0.0), (0.0, 0.2), (0.1, 0.2)])
def test_the_hierarchical_interval_covers_the_truth_as_often_as_it_says(seed_sd, video_sd):
    share = coverage(seed_sd, video_sd, lambda values, videos: hierarchical(values, videos, draws=400).ci)
    assert 0.92 <= share <= 0.995


def test_an_interval_over_videos_alone_does_not_cover_the_spread_of_seeds():
    share = coverage(0.1, 0.0, lambda values, videos: bootstrap_interval(values.mean(axis=0), videos, draws=400))
    assert share < 0.8


def test_under_no_effect_the_p_values_are_small_as_seldom_as_they_say():
    rng = np.random.default_rng(1)
    found = [hierarchical(*simulated(rng, 5, 15, 2, 0.1, 0.1, 0.3), draws=400).p for _ in range(300)]
    assert np.mean(np.array(found) < 0.05) <= 0.08
    assert np.mean(np.array(found) < 0.5) == pytest.approx(0.5, abs=0.15)


def test_an_effect_is_found_and_the_mean_and_the_seeds_are_exact():
    values, videos = simulated(np.random.default_rng(2), 5, 30, 3, 0.02, 0.05, 0.1, effect=0.2)
    found = hierarchical(values, videos)
    assert found.mean == pytest.approx(values.mean()) and found.per_seed == pytest.approx(values.mean(axis=1))
    assert found.ci[0] > 0.1 and found.p < 0.001


def test_one_seed_resamples_videos_only_as_the_normal_approximation_says():
    values = np.random.default_rng(0).normal(0.1, 1, (1, 200))
    found = hierarchical(values, list(range(200)))
    assert found.se == pytest.approx(values.std(ddof=1) / 200**0.5, rel=0.1) and found.df == pytest.approx(199)


def test_two_seeds_of_one_video_by_hand():
    found = hierarchical(np.array([[0.0, 0.0], [1.0, 1.0]]), ["a", "a"])
    assert found.se == pytest.approx(0.5, rel=0.05) and found.df == 1  # each draw is one of the seeds
    assert found.ci == pytest.approx((0.5 - 12.706 * found.se, 0.5 + 12.706 * found.se), rel=1e-3)


def test_one_seed_of_one_video_has_no_interval_and_values_without_spread_a_narrow_one():
    alone = hierarchical(np.array([[1.0, 0.0]]), ["a", "a"])
    assert (alone.mean, alone.ci, alone.p) == (0.5, None, None)
    same = hierarchical(np.full((2, 4), 0.5), list("aabb"))
    assert same.ci == (0.5, 0.5) and same.p == 0
    assert hierarchical(np.zeros((2, 4)), list("aabb")).p == 1


def test_tasks_and_videos_must_fit():
    with pytest.raises(ValueError, match=r"3 tasks on videos.*values of 2"):
        hierarchical(np.zeros((1, 2)), list("abc"))


def test_independent_estimates_are_combined_like_independent_errors():
    first = hierarchical(np.random.default_rng(0).normal(1, 1, (4, 40)), list(range(40)))
    second = hierarchical(np.random.default_rng(1).normal(0, 1, (4, 40)), list(range(40)))
    found = combined([(1.0, first), (-1.0, second)])
    assert found.mean == pytest.approx(first.mean - second.mean)
    assert found.se == pytest.approx((first.se**2 + second.se**2) ** 0.5)
    assert found.per_seed == pytest.approx([a - b for a, b in zip(first.per_seed, second.per_seed, strict=True)])
    assert min(first.df, second.df) <= found.df <= first.df + second.df


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, None, 0.01]) == [0.5, None, 0.02]
    assert holm([0.9, 0.8]) == [1, 1] and holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_the_value_and_bonferroni(ps):
    found = holm(ps)
    for p, corrected in zip(ps, found, strict=True):
        assert p - 1e-12 <= corrected <= min(1, len(ps) * p) + 1e-12
    for (p, a), (q, b) in combinations(zip(ps, found, strict=True), 2):
        assert (p <= q) == (a <= b) or a == b


def test_no_effect_larger_than_this_is_left():
    assert equivalence_bound((-0.01, 0.03)) == 0.03 and equivalence_bound((-0.2, -0.1)) == 0.2


@pytest.mark.parametrize("samples, right", [(8, 0), (8, 1), (8, 3), (8, 8), (5, 2)])
def test_pass_at_k_is_the_share_of_all_subsets_that_hold_a_right_answer(samples, right):
    answers = [1] * right + [0] * (samples - right)
    for k in range(1, samples + 1):
        subsets = list(combinations(answers, k))
        assert pass_at_k(samples, right, k) == pytest.approx(np.mean([max(subset) for subset in subsets]))


def test_pass_at_k_needs_k_samples():
    with pytest.raises(ValueError, match="pass@9 needs 9 samples, there are 8"):
        pass_at_k(8, 1, 9)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30))
def test_the_interval_contains_the_mean_and_lies_within_the_values(values):
    low, high = bootstrap_interval(values, draws=500)
    assert low - 1e-9 <= np.mean(values) <= high + 1e-9
    assert min(values) - 1e-9 <= low and high <= max(values) + 1e-9


def test_the_interval_is_repeatable_and_its_seed_matters():
    values = np.random.default_rng(0).random(40).tolist()
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values) != bootstrap_interval(values, seed=1)


def test_the_interval_is_about_that_of_the_normal_approximation():
    values = np.random.default_rng(0).normal(0, 1, 400)
    low, high = bootstrap_interval(values)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)


def test_tasks_of_one_video_widen_the_interval():
    values = [float(video % 2) for video in range(10) for _ in range(10)]
    videos = [f"video {video}" for video in range(10) for _ in range(10)]
    alone, clustered = bootstrap_interval(values), bootstrap_interval(values, videos)
    assert clustered[1] - clustered[0] > 2 * (alone[1] - alone[0])
    assert bootstrap_interval(values, list(range(100))) == pytest.approx(alone, abs=0.03)
