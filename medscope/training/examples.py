"""What SFT reads: warm-up examples and trajectories as token spans, as a rollout would produce them, token for token.

Records stay records until a batch needs them: `LazyExamples` decodes and tokenises an example when it is asked for,
with those of the same video while there is room, and keeps those that were used last within a bound in bytes.
Selecting, holding out and shuffling need no frame.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile, zip_longest
from typing import Any, Generic, TypeVar

import torch
from PIL import Image
from torch.utils.data import get_worker_info

from medscope.agents.context import rope_positions
from medscope.agents.encoding import RESPONSE_HEAD, RESPONSE_TAIL, TokenSpan, encode_blocks, encode_prompt, encode_turn
from medscope.agents.lengths import FRAME_WORDS, PROMPT_WORDS, RESPONSE_WORDS, context_limit
from medscope.agents.policy import Policy
from medscope.environment import ClinicalVideoEnvironment, FrameStore, ToolBudget
from medscope.environment.environment import error_blocks, skim, step
from medscope.environment.prompts import opening
from medscope.environment.tools import skim_seconds
from medscope.environment.video import PATCH_FACTOR
from medscope.records import Trajectory, WarmUpExample
from medscope.suite.captioned_frames import CAPTIONED_FRAMES
from medscope.suite.lazy import pick
from medscope.suite.recall import PLACES, RECALL
from medscope.suite.suite import Suite, evenly
from medscope.suite.warm_up import warm_up_blocks

Record = TypeVar("Record")
IGNORED = -100  # label of a token that bears no loss
HELD_OUT_EVERY = 20  # every 20th video of a split (or captioned example) is held out from training, for the curves
MOST_HELD_OUT = 192  # examples; the curves need no more
CLIP_SECONDS = 30  # a video of at most so many seconds is a clip
TOKEN_BYTES = 8
# The parts of the warm-up, in order, and the kinds of examples in each.
PARTS = {
    RECALL: {RECALL},
    PLACES: {PLACES},
    "captions": {"captions", "told"},
    "alignment": {CAPTIONED_FRAMES},
    "frames": {"frames"},
}


@dataclass(frozen=True)
class Example:
    """One dialogue ready to train on: its spans in order."""

    spans: tuple[TokenSpan, ...]

    @property
    def tokens(self) -> int:
        return sum(len(span.ids) for span in self.spans)

    @property
    def bytes(self) -> int:
        """Memory of token ids and frames; a frame that examples share counts for each."""
        pixels = sum(image.width * image.height for span in self.spans for image in span.images)
        return 3 * pixels + TOKEN_BYTES * self.tokens


def warm_up_example(policy: Policy, example: WarmUpExample, store: FrameStore) -> Example:
    """A warm-up example: its frames or captions and question, then the teacher's turn. What is given bears no loss."""
    messages = opening(example.question, warm_up_blocks(example, store), tools=False)
    prompt, turn = encode_prompt(policy, messages, tools=False), encode_turn(policy, example.turn)
    if not example.given:
        return Example((prompt, turn))
    alike = zip(encode_turn(policy, example.given).ids, turn.ids, strict=False)
    given = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], alike))
    return Example((prompt, TokenSpan(turn.ids[:given]), TokenSpan(turn.ids[given:], assistant=True)))


def trajectory_example(policy: Policy, trajectory: Trajectory, environment: ClinicalVideoEnvironment) -> Example:
    """A trajectory, its calls executed again so that the frames are those that the environment really shows.

    A call that was refused is refused again, in the words that are recorded: it may have been one too many for a budget
    that was smaller. Its turn bears no loss: what follows it is learned, the mistake is not.
    """
    environment.reset(path=trajectory.task.path)
    messages = opening(trajectory.task.question, skim(environment), trajectory.tools)
    spans = [encode_prompt(policy, messages, trajectory.tools)]
    for turn, recorded in zip_longest(trajectory.turns, trajectory.calls):
        spans.append(encode_turn(policy, turn))
        refused = recorded is not None and not recorded.executed
        response = error_blocks(recorded.message) if refused else step(environment, turn)
        if response:
            spans[-1] = replace(spans[-1], assistant=not refused and environment.trace.calls[-1].executed)
            spans.append(encode_blocks(policy, response, RESPONSE_HEAD, RESPONSE_TAIL))
    return Example(tuple(spans))


@dataclass
class ExampleBuilder:
    """Builds the example of a record of either kind."""

    policy: Policy
    store: FrameStore
    budget: ToolBudget
    durations: Mapping[str, float] = field(default_factory=dict)  # seconds, by video, where known

    def __call__(self, record: WarmUpExample | Trajectory) -> Example:
        if isinstance(record, Trajectory):
            environment = ClinicalVideoEnvironment(self.store, self.budget)
            return trajectory_example(self.policy, record, environment)
        return warm_up_example(self.policy, record, self.store)

    def fits(self, record: WarmUpExample | Trajectory) -> bool:
        """Whether the example is within the context. It is built only where the record alone does not say so."""
        limit = context_limit(self.policy, self.budget)
        return self.most_tokens(record) <= limit or self(record).tokens <= limit

    def most_tokens(self, record: WarmUpExample | Trajectory) -> int:
        """A bound on the tokens of a record's example, without a look at its video: every byte of text is a token."""
        budget = self.budget
        if isinstance(record, WarmUpExample):
            shown = [(len(record.seconds), record.max_pixels)]
            words = [record.question, *record.captions, record.turn]
        else:
            pixels = {"crop_video": budget.crop_pixels, "get_frame": budget.frame_pixels}
            skimmed = skim_seconds(self.durations.get(record.task.video, budget.skim_frames), budget.skim_frames)
            shown = [(len(call.seconds), pixels.get(call.name, 0)) for call in record.calls]
            unknown = max(0, len(record.turns) - 1 - len(record.calls))  # responses to calls that are not recorded
            shown += unknown * [(budget.crop_frames, budget.crop_pixels), (3, budget.frame_pixels)]
            shown.append((len(skimmed), budget.skim_pixels))
            words = [record.task.question, *record.turns, *(call.message for call in record.calls)]
        frames = sum(count * (size // PATCH_FACTOR**2 + FRAME_WORDS) for count, size in shown)
        return PROMPT_WORDS + len(shown) * RESPONSE_WORDS + len("".join(words).encode()) + frames

    def fitting(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records whose examples fit; how many do not is printed."""
        kept = pick(records, [number for number, record in enumerate(records) if self.fits(record)])
        if len(kept) < len(records):
            limit = context_limit(self.policy, self.budget)
            print(f"{len(records) - len(kept)} of {len(records)} examples left out: more than {limit} tokens each")
        return kept


def video_path(record: Any) -> str:
    """The file that a record's example reads; "" for one that reads none."""
    return record.task.path if isinstance(record, Trajectory) else getattr(record, "path", "")


class LazyExamples(Generic[Record]):
    """Examples of records, built when asked for. Those used last are kept, up to `max_bytes` (see `Example.bytes`).

    Batches are shuffled, so that a video would be opened and decoded for each of its examples. While there is room, all
    examples of a video are built when the first of them is asked for.
    """

    def __init__(self, records: Sequence[Record], build: Callable[[Record], Example], max_bytes: int = 1 << 30):
        self.records, self.build, self.max_bytes = records, build, max_bytes
        self.bytes = 0
        self._built: OrderedDict[int, Example] = OrderedDict()
        self._of_video: defaultdict[str, list[int]] = defaultdict(list)
        for number, record in enumerate(records):
            if path := video_path(record):
                self._of_video[path].append(number)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, number: int) -> Example:
        if number not in self._built:
            self._add(number)
            if get_worker_info() is None:  # batches go to workers in turn: each would build what another one needs
                self._add_of_same_video(number)
        self._built.move_to_end(number)
        example = self._built[number]
        while self.bytes > self.max_bytes:
            self.bytes -= self._built.popitem(last=False)[1].bytes
        return example

    def _add(self, number: int) -> None:
        self._built[number] = self.build(self.records[number])
        self.bytes += self._built[number].bytes

    def _add_of_same_video(self, number: int) -> None:
        """Build the other examples of this one's video, until another one of its size would exceed the bound."""
        size = self._built[number].bytes
        for other in self._of_video.get(video_path(self.records[number]), ()):
            if self.bytes + size > self.max_bytes:
                return
            if other not in self._built:
                self._add(other)


def warm_up_records(suite: Suite, part: str) -> tuple[Sequence[WarmUpExample], Sequence[WarmUpExample]]:
    """The warm-up examples of one of the PARTS: for training, and held out."""
    found = [(n, e.video) for n, e in enumerate(suite.warm_up_examples) if _kind(e) in PARTS[part]]
    sources = [video or number for number, (_, video) in enumerate(found)]
    return hold_out(pick(suite.warm_up_examples, [number for number, _ in found]), sources)


def _kind(example: WarmUpExample) -> str:
    if example.collection in (RECALL, PLACES, CAPTIONED_FRAMES):
        return example.collection
    return "told" if example.given else "captions" if example.captions else "frames"


def trajectory_records(trajectories: Sequence[Trajectory]) -> tuple[Sequence[Trajectory], Sequence[Trajectory]]:
    """The trajectories: for training, and on held-out videos."""
    return hold_out(trajectories, [trajectory.task.video for trajectory in trajectories])


def clip_records(suite: Suite, most: int) -> Sequence[WarmUpExample]:
    """At most `most` of the warm-up examples on clips (the ClinVideo-Cap of stage II), evenly spread."""
    shown = [(number, example.video) for number, example in enumerate(suite.warm_up_examples) if example.video]
    clips = [number for number, video in shown if suite.recording(video).duration <= CLIP_SECONDS]
    return pick(suite.warm_up_examples, evenly(clips, most))


def hold_out(records: Sequence[Record], sources: Sequence[Hashable]) -> tuple[Sequence[Record], Sequence[Record]]:
    """Records of every HELD_OUT_EVERY-th source apart from the others; of them at most MOST_HELD_OUT, evenly spread.

    Where all are of one source, single records are held out.
    """
    if len(set(sources)) == 1:
        sources = range(len(records))
    held_out = set(list(dict.fromkeys(sources))[::HELD_OUT_EVERY])
    apart = [source in held_out for source in sources]
    training = [number for number, held in enumerate(apart) if not held]
    rest = [number for number, held in enumerate(apart) if held]
    return pick(records, training), pick(records, evenly(rest, MOST_HELD_OUT))


def collate(policy: Policy, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    """A batch padded on the right: ids, labels (assistant tokens only) and mask [rows, width], frame patches.

    Where a mask [rows, width, width] would exceed the policy's `mask_elements`, padding is not masked: attention then
    needs no mask at all, no token sees the padding behind it, and padding bears no loss.
    """
    width = max(example.tokens for example in examples)
    ids = torch.full((len(examples), width), policy.tokenizer.pad_token_id)
    labels, mask = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
    images: list[Image.Image] = []
    for row, example in enumerate(examples):
        start = 0
        for span in example.spans:
            here = slice(start, start + len(span.ids))
            ids[row, here], mask[row, here] = torch.tensor(span.ids), 1
            if span.assistant:
                labels[row, here] = ids[row, here]
            images += span.images
            start = here.stop
    if len(examples) * width**2 > policy.mask_elements:
        mask.fill_(1)
    kinds = (ids == policy.image_token).int()
    batch = {"input_ids": ids, "labels": labels, "attention_mask": mask, "mm_token_type_ids": kinds}
    if any(span.captioned for example in examples for span in example.spans):
        batch["position_ids"] = _positions(policy, examples, width)  # the model would take the captions for text
    if images:
        batch |= policy.processor.image_processor(images, do_resize=False, return_tensors="pt")
    return batch


def _positions(policy: Policy, examples: Sequence[Example], width: int) -> torch.Tensor:
    """Rotary positions [3, rows, width] in which a caption has those of its frame."""
    positions = torch.ones(3, len(examples), width, dtype=torch.long)
    for row, example in enumerate(examples):
        start = now = 0
        for span in example.spans:
            placed = rope_positions(span, policy.image_token, now)
            positions[:, row, start : start + len(span.ids)] = torch.from_numpy(placed.copy())
            start, now = start + len(span.ids), int(placed.max(initial=now - 1)) + 1
    return positions
