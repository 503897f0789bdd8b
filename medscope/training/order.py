"""The order in which SFT reads its examples when those of like length share a batch: less padding, the same examples.

Lengths come from the records and the durations of the manifest: no frame is decoded. The order is drawn once for the
whole training, from the seed alone: a resume goes on in it, whatever the number of processes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from torch.utils.data import Sampler

from medscope.agents.encoding import encode_prompt, encode_turn
from medscope.agents.policy import Policy
from medscope.environment import ToolBudget
from medscope.environment.prompts import opening
from medscope.environment.tools import skim_seconds
from medscope.environment.video import PATCH_FACTOR
from medscope.records import Trajectory, WarmUpExample

POOL = 50  # batches among which examples of like length are put together


def estimated_tokens(
    policy: Policy, record: WarmUpExample | Trajectory, durations: Mapping[str, float], budget: ToolBudget
) -> int:
    """About how many tokens the example of a record has: its texts, and frames that fill the pixels of the budget.

    `durations` (seconds) are those of the videos, by name.
    """
    if isinstance(record, WarmUpExample):
        captions = () if record.max_pixels else record.captions
        question, turns, tools = "".join([record.question, *captions]), [record.turn], False
        shown = [(record.seconds, record.max_pixels)]
    else:
        question, turns, tools = record.task.question, record.turns, record.tools
        pixels = {"crop_video": budget.crop_pixels, "get_frame": budget.frame_pixels}
        shown = [(call.seconds, pixels[call.name]) for call in record.calls if call.seconds]
        shown.append((skim_seconds(durations[record.task.video], budget.skim_frames), budget.skim_pixels))
    labels = "".join(f" {second:g}s" for seconds, _ in shown for second in seconds)
    words = len(encode_prompt(policy, opening(question, [], tools), tools).ids) + len(policy.encode(labels))
    words += sum(len(encode_turn(policy, turn).ids) for turn in turns)
    return words + sum(len(seconds) * (pixels // PATCH_FACTOR**2) for seconds, pixels in shown)


def grouped_by_length(lengths: Sequence[int], batch_size: int, batches: int, seed: int) -> list[int]:
    """Numbers of examples for so many batches, `batch_size` in a row each: random, and of like length in a batch.

    Every example comes once before any comes again. Of POOL batches the examples are sorted by length, and the batches
    shuffled.
    """
    rng = np.random.default_rng([seed, 12])
    needed = batches * batch_size
    epochs = -(-needed // len(lengths))
    stream = np.concatenate([rng.permutation(len(lengths)) for _ in range(epochs)])[:needed]
    order: list[int] = []
    for start in range(0, needed, POOL * batch_size):
        pool = stream[start : start + POOL * batch_size]
        pool = pool[np.argsort(np.asarray(lengths)[pool], kind="stable")].reshape(-1, batch_size)
        order += rng.permutation(pool).ravel().tolist()
    return order


class WholeOrder(Sampler[int]):
    """An order that is already drawn; the trainer's one epoch is the whole training."""

    def __init__(self, order: Sequence[int]):
        self.order = order

    def __iter__(self):
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)
