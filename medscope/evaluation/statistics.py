"""How sure a mean is: intervals over seeds and videos, p values, families of tests, equivalence, pass@k.

Two things are left to chance, the seed of a training and the choice of videos, and every seed answers the same videos.
So both are resampled, crossed (the pigeonhole bootstrap, Owen 2007, which is slightly conservative): a draw takes some
seeds and some videos, and all tasks where they meet. It takes n - 1 of n, so that the variance of few seeds is not
underestimated (Rao and Wu 1988). The interval is mean +- t x standard error, with Satterthwaite's degrees of freedom:
five seeds have heavier tails than the normal distribution.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from scipy.stats import t as student

LEVEL = 0.95  # of every interval


@dataclass(frozen=True)
class Estimate:
    """A mean over tasks and seeds: its 95 % interval, standard error and two-sided p value (of 0); None if unknown."""

    mean: float
    per_seed: tuple[float, ...]
    se: float | None = None
    df: float | None = None

    @property
    def ci(self) -> tuple[float, float] | None:
        if self.se is None:
            return None
        half = float(student.ppf((1 + LEVEL) / 2, self.df)) * self.se if self.se else 0.0
        return self.mean - half, self.mean + half

    @property
    def p(self) -> float | None:
        if self.se is None:
            return None
        if self.se == 0:
            return float(self.mean == 0)
        return float(2 * student.sf(abs(self.mean) / self.se, self.df))


def hierarchical(
    values: np.ndarray | Sequence[Sequence[float]], videos: Sequence[Hashable], seed: int = 0, draws: int = 2000
) -> Estimate:
    """The mean of `values` [seeds, tasks], whose tasks lie on `videos` [tasks], by resampling seeds and videos.

    Give differences (pairs by seed and question) to compare two systems. With one seed only videos are resampled, with
    one video only seeds; with one of both nothing is known of the error.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.shape[1] != len(videos):
        raise ValueError(f"{len(videos)} tasks on videos, and values of {data.shape[1]} tasks per seed")
    _, index = np.unique([str(video) for video in videos], return_inverse=True)
    counts_V = np.bincount(index)
    sums_SV = np.stack([np.bincount(index, weights=row) for row in data])
    mean, per_seed = float(data.mean()), tuple(data.mean(axis=1).tolist())
    n_seeds, n_videos = sums_SV.shape
    if n_seeds == n_videos == 1:
        return Estimate(mean, per_seed)
    rng = np.random.default_rng(seed)
    seeds_DS, videos_DV = _picks(rng, n_seeds, draws), _picks(rng, n_videos, draws)
    taken = seeds_DS.sum(axis=1) * (videos_DV @ counts_V)
    means_D = ((seeds_DS @ sums_SV) * videos_DV).sum(axis=1) / taken
    residual_V = sums_SV.mean(axis=0) - mean * counts_V
    parts = []  # variance of the mean by its two causes, with the degrees of freedom of each
    if n_seeds > 1:
        parts.append((float(np.var(per_seed, ddof=1)) / n_seeds, n_seeds - 1))
    if n_videos > 1:
        spread = float((residual_V**2).sum()) * n_videos / (n_videos - 1)
        parts.append((spread / counts_V.sum() ** 2, n_videos - 1))
    spread_D = float(means_D.std())
    return Estimate(mean, per_seed, 0.0 if spread_D < 1e-12 else spread_D, _satterthwaite(parts))


def _picks(rng: np.random.Generator, number: int, draws: int) -> np.ndarray:
    """How often each of `number` is in each draw of number - 1 of them: [draws, number]."""
    return rng.multinomial(max(1, number - 1), np.full(number, 1 / number), draws)


def _satterthwaite(parts: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of independent variances, given with theirs; the smallest where all are 0."""
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return float(min(df for _, df in parts))
    return total**2 / sum(variance**2 / df for variance, df in parts)


def combined(parts: Sequence[tuple[float, Estimate]]) -> Estimate:
    """The weighted sum of estimates from different videos and trainings, whose errors are independent."""
    mean = sum(weight * part.mean for weight, part in parts)
    seeds = min(len(part.per_seed) for _, part in parts)
    per_seed = tuple(sum(weight * part.per_seed[i] for weight, part in parts) for i in range(seeds))
    if any(part.se is None for _, part in parts):
        return Estimate(mean, per_seed)
    variances = [((weight * part.se) ** 2, part.df) for weight, part in parts]
    return Estimate(mean, per_seed, sum(v for v, _ in variances) ** 0.5, _satterthwaite(variances))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """The p values of one family of tests, corrected for their number (Holm 1979); None is no test and stays None."""
    tested = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    found: list[float | None] = [None] * len(ps)
    least = 0.0
    for rank, (p, place) in enumerate(tested):
        least = max(least, min(1.0, (len(tested) - rank) * p))
        found[place] = least
    return found


def equivalence_bound(ci: Sequence[float]) -> float:
    """The smallest delta for which the interval lies within +-delta: no effect larger than this is left.

    "No effect" is only said where this is at most a delta chosen before (two one-sided tests at 2.5 %).
    """
    return max(abs(ci[0]), abs(ci[1]))


def pass_at_k(samples: int, right: int, k: int) -> float:
    """The chance that k of `samples` answers, `right` of them right, hold a right one (unbiased; Chen et al. 2021)."""
    if k > samples:
        raise ValueError(f"pass@{k} needs {k} samples, there are {samples}")
    return 1 - comb(samples - right, k) / comb(samples, k)


def bootstrap_interval(
    values: Sequence[float], clusters: Sequence[Hashable] | None = None, seed: int = 0, draws: int = 2000
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean, resampling whole clusters (videos: their tasks are alike)."""
    data = np.asarray(values, dtype=np.float64)
    _, index = np.unique([str(c) for c in clusters] if clusters else np.arange(len(data)), return_inverse=True)
    sums, counts = np.bincount(index, weights=data), np.bincount(index)
    picks = np.random.default_rng(seed).integers(0, len(sums), (draws, len(sums)))
    low, high = np.percentile(sums[picks].sum(axis=1) / counts[picks].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)
