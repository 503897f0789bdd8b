"""Can the words of the rendered procedures be read off their frames, at the sizes at which a policy sees them?

A small transformer over patches of 14 px learns every word from frames of some hundred videos of the training views,
one network per size, and is tested on other videos: one row per view, the unseen one included. What a look of that size
is meant to show should come out near 1; the size below shows how much the larger one is needed.

    python benchmarks/legibility.py            # 400 videos, minutes on one core
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np
import torch
from report import machine, write_results
from torch import nn
from tqdm import tqdm

from medscope.environment.video import fit
from medscope.records import Recording
from medscope.sources.rendered.camera import draw
from medscope.sources.rendered.collections import sample_recording, view_of
from medscope.sources.rendered.timeline import visible
from medscope.sources.rendered.words import CAMERA, COUNTS, EVENTS, INSTRUMENTS, PHASES, SIDES, STEPS

WORDS = {
    "camera": ("clear", *CAMERA),
    "phase": PHASES,
    "step": STEPS,
    "event": ("none", *EVENTS),
    "instrument": INSTRUMENTS,
    "side": SIDES,
    "count": COUNTS,
}
SIZES = {28: ("camera", "phase", "step", "event"), 56: tuple(WORDS), 84: tuple(WORDS)}  # pixels: what is asked there
PATCH, WIDTH = 14, 96  # pixels, features
UNSEEN = -100  # the target where a frame does not show a word


def moments(recording: Recording, rng: np.random.Generator) -> Iterator[float]:
    """A second of every phase and camera interval, some of every event."""
    wanted = {"phase": 1, "step": 0, "event": 3, "camera": 1}
    for interval in recording.intervals:
        window = interval.window
        yield from rng.integers(int(window.start), int(window.end), wanted[interval.attributes["level"]])


def targets(recording: Recording, second: float) -> list[int]:
    """The index of each word that the frame shows, in the order of WORDS."""
    seen = visible(recording, second)
    event = seen["event"]
    shown = {"camera": seen["camera"] or "clear", "phase": seen["phase"], "step": seen["step"]}
    if seen["camera"] is None:
        shown["event"] = event.label if event else "none"
    if event is not None:
        shown |= event.attributes
    return [words.index(shown[name]) if shown.get(name) else UNSEEN for name, words in WORDS.items()]


def frames_of(collection: str, videos: range) -> tuple[np.ndarray, torch.Tensor, list[str]]:
    """Frames uint8 [n, 112, 112, 3], targets [n, words] and views [n] of videos that are not written to disk."""
    frames, labels, views = [], [], []
    for index in tqdm(videos, desc=collection, unit="video"):
        rng = np.random.default_rng([7, index])
        recording = sample_recording(collection, f"{collection}_{index}", "eval", "unused.mp4", 24, 0.2, rng)
        for second in moments(recording, rng):
            frames.append(draw(recording, float(second)))
            labels.append(targets(recording, second))
            views.append(view_of(recording))
    return np.stack(frames), torch.tensor(labels), views


def resized(frames: np.ndarray, size: int) -> torch.Tensor:
    """Frames as the environment hands them to a policy: float32 [n, 3, size, size]."""
    small = np.stack([np.asarray(fit(frame, size * size)) for frame in frames])
    return torch.from_numpy(small).permute(0, 3, 1, 2).float() / 128 - 1


class Reader(nn.Module):
    """A transformer over patches, small as the policy's eyes, and one linear layer per word over their mean."""

    def __init__(self, names: tuple[str, ...], size: int):
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.places = nn.Parameter(0.02 * torch.randn((size // PATCH) ** 2, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 3, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.heads = nn.ModuleDict({name: nn.Linear(WIDTH, len(WORDS[name])) for name in names})

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits per word."""
        features = self.body(self.patches(pixels).flatten(2).transpose(1, 2) + self.places).mean(dim=1)
        return {name: head(features) for name, head in self.heads.items()}


def train(pixels: torch.Tensor, labels: torch.Tensor, names: tuple[str, ...], epochs: int) -> Reader:
    """A reader of frames of one size."""
    torch.manual_seed(0)
    model = Reader(names, pixels.shape[-1])
    steps = epochs * (len(pixels) // 64)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, total_steps=steps, pct_start=0.1)
    for _ in tqdm(range(epochs), desc=f"{pixels.shape[-1]} px", unit="epoch"):
        for batch in torch.randperm(len(pixels))[: len(pixels) // 64 * 64].view(-1, 64):
            logits = model(pixels[batch])
            losses = [
                nn.functional.cross_entropy(logits[name], labels[batch, list(WORDS).index(name)], reduction="sum")
                for name in names
            ]
            (sum(losses) / 64).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    return model.eval()


@torch.inference_mode()
def correct(model: Reader, pixels: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Per word 1.0, 0.0, or NaN where a frame does not show it: [n]."""
    logits = [model(batch) for batch in pixels.split(256)]
    right = {}
    for name in model.heads:
        target = labels[:, list(WORDS).index(name)]
        hit = (torch.cat([batch[name] for batch in logits]).argmax(1) == target).float()
        right[name] = torch.where(target == UNSEEN, torch.nan, hit)
    return right


def main() -> None:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=400, help="to train on; a quarter more to test on")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), choices=list(SIZES))
    arguments = parser.parse_args()
    tests = max(8, arguments.videos // 4)
    frames, labels, _ = frames_of("procedures", range(arguments.videos))
    parts = [frames_of("procedures", range(10_000, 10_000 + tests)), frames_of("view", range(tests // 4))]
    test_frames, test_labels = np.concatenate([p[0] for p in parts]), torch.cat([p[1] for p in parts])
    views = np.array([view for part in parts for view in part[2]])
    rows = []
    for size in arguments.sizes:
        start = time.perf_counter()
        model = train(resized(frames, size), labels, SIZES[size], arguments.epochs)
        right = correct(model, resized(test_frames, size), test_labels)
        for view in dict.fromkeys(views):
            row = {"pixels": size, "view": str(view), "frames": int((views == view).sum())}
            rows.append(row | {name: f"{hit[views == view].nanmean():.2f}" for name, hit in right.items()})
            print(rows[-1], flush=True)
        print(f"{size} px: {time.perf_counter() - start:.0f} s", flush=True)
    write_results(
        "legibility", rows, {**machine(), "videos": f"{arguments.videos} to train, {tests + tests // 4} to test"}
    )


if __name__ == "__main__":
    main()
