"""The start of a random vision tower: a frame's visual tokens become the embeddings of the words for what it shows.

A pretrained model reads its frames by a tower that has seen millions of captioned images. This one is random, and in a
short training the loss of whole dialogues, through the language model, does not teach it to see. Here it is trained
alone, on captioned frames (`suite.captioned_frames`), against the embeddings of a language model that has learned
captions: every visual token of a frame, and their mean, is compared with the embeddings of all words that a frame of
its size can show. The loss is cross-entropy over cosines, as in CLIP (Radford et al. 2021), plus the squared distance
to the sum of the right embeddings, so that the language model reads a frame as it reads a caption. The colours of
training frames are jittered.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from torch.nn import functional
from transformers import Trainer, TrainingArguments

from medscope.agents.features import visual_tokens
from medscope.agents.policy import Policy
from medscope.environment import FrameStore
from medscope.environment.environment import show_frames
from medscope.ranks import gathered, share
from medscope.records import WarmUpExample
from medscope.suite.lazy import Joined
from medscope.training.arguments import common_arguments, supervised_arguments
from medscope.training.examples import LazyExamples
from medscope.training.optimizers import optimizer_class
from medscope.training.progress import show_as_text
from medscope.training.resume import Resumable
from medscope.training.tracking import run_metrics

SHARPNESS = 12.0  # factor of the cosines
Verdict = tuple[tuple[int, int], bool]  # pixels of the frame, place of the word in its caption; whether it was read
JITTER = 0.15  # standard deviation of the log gain of a colour, and of all three together
DISTANCE = 0.3  # weight of the squared distance, in units of the embeddings' variance


@dataclass(frozen=True)
class CaptionedFrames:
    """Frames of one size and the words of each. `pixels` is the size that was asked for."""

    pixels: int
    images: list[Image.Image]
    words: list[list[str]]

    @property
    def bytes(self) -> int:
        return sum(3 * image.width * image.height for image in self.images)


def jittered(images: Sequence[Image.Image], rng: np.random.Generator) -> list[Image.Image]:
    """Each frame with its red, green and blue multiplied by gains of its own: shapes tell more than colours do."""
    gains = np.exp(JITTER * (rng.normal(size=(len(images), 3)) + rng.normal(size=(len(images), 1))))
    lit = (np.clip(np.asarray(image) * gain, 0, 255) for image, gain in zip(images, gains, strict=True))
    return [Image.fromarray(frame.astype(np.uint8)) for frame in lit]


class Words:
    """The words that frames of a size show, by their place in a caption, with their embeddings [words, hidden]."""

    def __init__(self, policy: Policy, examples: Sequence[WarmUpExample]):
        found: dict[tuple[int, int], set[str]] = {}
        for example in examples:
            for caption in example.captions:
                for place, word in enumerate(caption.split()):
                    found.setdefault((example.max_pixels, place), set()).add(word)
        table = policy.model.get_input_embeddings().weight.detach()
        self.known = {key: sorted(words) for key, words in found.items()}
        self.vectors = {
            key: torch.stack([table[policy.encode(f" {word}")].mean(0) for word in words])
            for key, words in self.known.items()
        }
        self.variance = torch.cat(list(self.vectors.values())).var()

    def loss(self, frames: CaptionedFrames, features: torch.Tensor) -> tuple[torch.Tensor, list[Verdict]]:
        """Mean over the frames, for `features` [frames, tokens, hidden]; and of each word its place in the caption of
        frames of this size, and whether it is the nearest one."""
        read = torch.cat([features.mean(1, keepdim=True), features], dim=1)  # the frame as a whole, and every token
        weights = torch.full(read.shape[1:2], 0.5 / features.shape[1]).index_fill(0, torch.tensor(0), 0.5).to(read)
        words = len(frames.words[0])
        total, target, right = features.new_zeros(()), features.new_zeros(()), []
        for place in range(words):
            known, vectors = self.known[frames.pixels, place], self.vectors[frames.pixels, place]
            index = torch.tensor([known.index(told[place]) for told in frames.words], device=features.device)
            cosines = functional.normalize(read, dim=-1) @ functional.normalize(vectors, dim=-1).T
            scores = SHARPNESS * words**0.5 * cosines.transpose(1, 2)  # a sum of n vectors has a cosine of 1/sqrt(n)
            each = index[:, None].expand(read.shape[:2])
            total = total + (functional.cross_entropy(scores, each, reduction="none") * weights).sum(1).mean()
            target = target + vectors[index, None] / words**0.5
            right += [((frames.pixels, place), found) for found in (cosines[:, 0].argmax(-1) == index).tolist()]
        distances = ((read - target) ** 2).mean(-1) / self.variance
        return total + DISTANCE * words * (distances * weights).sum(1).mean(), right


class AlignmentTrainer(Resumable, Trainer):
    """The trainer with this loss; `eval_mean_token_accuracy` is the share of words that are the nearest, and
    `eval_read_7056_0` that of first words in captions of frames of 7056 pixels.

    Every example has the same weight, so that the loss is the same however a batch is shared by processes.
    """

    policy: Policy
    words: Words
    examples: LazyExamples[WarmUpExample]

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Any:
        some = [self.examples[number] for number in inputs["numbers"]]
        images = [frames.images for frames in some]
        if model.training:  # drawn by example and step: the same after a kill, and in any number of processes
            draws = [np.random.default_rng([self.args.seed, self.state.global_step, n]) for n in inputs["numbers"]]
            images = [
                jittered(frames, rng)
                if visual_tokens(frames[0]) > 1
                else frames  # a single token is told by its colours
                for frames, rng in zip(images, draws, strict=True)
            ]
        pixels = self.policy.pixels([image for frames in images for image in frames])
        features = iter(
            model(pixels["pixel_values"], grid_thw=pixels["image_grid_thw"]).pooler_output.split(
                [visual_tokens(image) for frames in some for image in frames.images]
            )
        )
        losses, right = [], []
        for frames in some:
            loss, verdicts = self.words.loss(frames, torch.stack([next(features) for _ in frames.images]))
            losses.append(loss)
            right += verdicts
        if not model.training:
            self.right += right
        loss = torch.stack(losses).mean()
        return (loss, {}) if return_outputs else loss

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any
    ) -> tuple[torch.Tensor, None, None]:
        with torch.no_grad():
            return self.compute_loss(model, inputs), None, None

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        self.right: list[Verdict] = []
        return super().evaluate(*args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "eval_loss" in logs:
            right = [verdict for verdicts in gathered(self.right) for verdict in verdicts]
            logs["eval_mean_token_accuracy"] = sum(found for _, found in right) / len(right)
            for pixels, place in sorted({key for key, _ in right}):
                found = [found for key, found in right if key == (pixels, place)]
                logs[f"eval_read_{pixels}_{place}"] = sum(found) / len(found)
        super().log(logs, *args, **kwargs)


def align(
    policy: Policy,
    training: Sequence[WarmUpExample],
    held_out: Sequence[WarmUpExample],
    store: FrameStore,
    scratch: str | Path,
    steps: int,
    batch_size: int,
    learning_rate: float,
    save_steps: int = 100,
    seed: int = 0,
    optimizer: str = "muon",
    evaluations: int = 4,
) -> list[dict[str, float]]:
    """Train the vision tower in place on captioned frames, resuming from `scratch` after a kill; returns the log."""
    settings = TrainingArguments(
        **common_arguments(scratch, steps, learning_rate, save_steps, seed),
        **supervised_arguments(steps, evaluations),
        per_device_train_batch_size=share("batch_size", batch_size),
        per_device_eval_batch_size=share("batch_size", batch_size),
        warmup_steps=min(20, steps // 10),
        prediction_loss_only=True,
    )
    both = Joined(training, held_out)
    numbers = list(range(len(both)))
    trainer = AlignmentTrainer(
        policy.base.model.visual,
        args=settings,
        train_dataset=Dataset.from_dict({"number": numbers[: len(training)]}),
        eval_dataset=Dataset.from_dict({"number": numbers[len(training) :]}),
        data_collator=lambda rows: {"numbers": [row["number"] for row in rows]},
        callbacks=run_metrics(),
        optimizer_cls_and_kwargs=optimizer_class(optimizer, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01),
    )
    trainer.policy, trainer.words = policy, Words(policy, both)
    trainer.examples = LazyExamples(both, frames_and_words(store))
    show_as_text(trainer)
    history = trainer.train_or_continue()
    policy.forget_features()
    return history


def frames_and_words(store: FrameStore) -> Callable[[WarmUpExample], CaptionedFrames]:
    """What makes the frames of an example, with their words."""

    def made(example: WarmUpExample) -> CaptionedFrames:
        blocks = show_frames(store, example.path, list(example.seconds), example.max_pixels)
        images = [block["image"] for block in blocks if block["type"] == "image"]
        return CaptionedFrames(example.max_pixels, images, [caption.split() for caption in example.captions])

    return made
