"""What a batch of dialogues has said and seen, inside the language model: spans of tokens and frames, and their cache.

Everything is computed once: features once per frame, a prompt once per task (`fork` lets a group share its cache),
every later token once. Rows of different length are padded on the left; padding stays in the cache as masked holes
until `select` drops the columns that nobody uses. Works under autograd as well as without.

Memory: a forward pass reads at most `Policy.prefill_tokens` tokens and needs at most `Policy.mask_elements` of mask.
Longer input is fed in slices of columns, many prompts in groups of rows. Long prompts without padding have no mask.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from transformers import DynamicCache

from medscope.agents.attention import Prefix
from medscope.agents.encoding import TokenSpan
from medscope.agents.policy import Policy
from medscope.environment.video import PATCH_FACTOR


def rope_positions(span: TokenSpan, image_token: int, start: int) -> np.ndarray:
    """Multimodal rotary positions [3, n] (time, height, width) of a span that begins at `start`.

    Text advances by one; an image of h x w tokens stands at one time and advances by max(h, w), as in Qwen2.5-VL. A
    caption in the place of a frame has the positions of the frame.
    """
    ids, sides = span.ids, dict(span.captioned)
    if not span.images and not sides:
        return np.broadcast_to(np.arange(start, start + len(ids)), (3, len(ids)))
    positions = np.empty((3, len(ids)), dtype=np.int64)
    frames, index, now = iter(span.images), 0, start
    while index < len(ids):
        if index in sides:
            height = width = sides[index]
        elif ids[index] == image_token:
            image = next(frames)
            height, width = image.height // PATCH_FACTOR, image.width // PATCH_FACTOR
        else:
            positions[:, index] = now
            index, now = index + 1, now + 1
            continue
        rows, columns = np.divmod(np.arange(height * width), width)
        positions[:, index : index + height * width] = now + np.stack([np.zeros_like(rows), rows, columns])
        index, now = index + height * width, now + max(height, width)
    return positions


def embed(policy: Policy, ids: torch.Tensor, images: list[Image.Image]) -> torch.Tensor:
    """Embeddings [rows, width, hidden] of the token ids [rows, width], the frames' features in the place of theirs."""
    embeddings = policy.base.get_input_embeddings()(ids)
    if not images:
        return embeddings
    features = torch.cat(policy.features(images)).to(embeddings)
    where = ids == policy.image_token
    if int(where.sum()) != len(features):
        raise ValueError(f"{int(where.sum())} image tokens for {len(features)} visual features")
    return embeddings.masked_scatter(where[..., None], features)


class Context:
    """`rows` dialogues in the model: cache, which of its columns each row uses [rows, columns], next positions.

    `prefix` holds what is before the cache and shared by rows, if anything is.
    """

    def __init__(self, policy: Policy, rows: int, prefix: Prefix | None = None):
        self.policy, self.prefix = policy, prefix
        self.cache = DynamicCache(config=policy.base.config.text_config)
        self.used = torch.zeros(rows, 0, dtype=torch.bool, device=policy.device)
        self.next_position = np.zeros(rows, dtype=np.int64)

    def extend(self, spans: Sequence[TokenSpan]) -> torch.Tensor:
        """Feed a span to every row, padded on the left (an empty span is a hole).

        Returns the last hidden states [rows, width, hidden]: `policy.base.lm_head` makes logits of those one needs.
        """
        policy, device = self.policy, self.policy.device
        width = max(len(span.ids) for span in spans)
        ids = np.full((len(spans), width), policy.tokenizer.pad_token_id)
        used = np.zeros((len(spans), width), dtype=bool)
        positions = np.zeros((3, len(spans), width), dtype=np.int64)
        for row, span in enumerate(spans):
            if span.ids:
                here = slice(width - len(span.ids), width)
                ids[row, here], used[row, here] = span.ids, True
                positions[:, row, here] = rope_positions(span, policy.image_token, int(self.next_position[row]))
                self.next_position[row] = positions[:, row, -1].max() + 1
        embeddings = embed(policy, torch.from_numpy(ids).to(device), [image for span in spans for image in span.images])
        states = [
            self._forward(
                embeddings[:, part],
                torch.from_numpy(positions[:, :, part]).to(device),
                torch.from_numpy(used[:, part]).to(device),
                causal=first_and_whole,
            )
            for part, first_and_whole in self._slices(width, whole=bool(used.all()))
        ]
        return states[0] if len(states) == 1 else torch.cat(states, dim=1)

    def _slices(self, width: int, whole: bool) -> Iterator[tuple[slice, bool]]:
        """Cut `width` new columns so that each forward keeps to the policy's budgets; true where it needs no mask."""
        rows, before = self.used.shape
        before += self.prefix.used.shape[1] if self.prefix else 0
        at_once = max(1, self.policy.prefill_tokens // rows)
        masked = max(1, min(at_once, self.policy.mask_elements // (rows * (before + width))))
        causal = whole and before == 0 and rows * width**2 > self.policy.mask_elements
        start = 0
        while start < width:
            stop = min(width, start + (at_once if causal else masked))
            yield slice(start, stop), causal
            start, causal = stop, False  # SDPA's causal flag takes no earlier columns

    def _forward(
        self, embeddings: torch.Tensor, positions: torch.Tensor, used: torch.Tensor, causal: bool
    ) -> torch.Tensor:
        """Read new columns: embeddings [rows, n, hidden], positions [3, rows, n], used [rows, n]; hidden states."""
        self.used = torch.cat([self.used, used], dim=1)
        return self.policy.base.model.language_model(
            inputs_embeds=embeddings,
            attention_mask={"full_attention": None if causal else self._attends(used.shape[1])},
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            prefix=self.prefix,
        ).last_hidden_state

    def _attends(self, width: int) -> torch.Tensor:
        """What each of the last `width` columns attends to [rows, 1, width, columns]: itself, and earlier used ones."""
        columns = torch.arange(self.used.shape[1], device=self.used.device)
        new = columns[-width:, None]
        return ((columns <= new) & self.used[:, None, None, :]) | (columns == new)

    def fork(self, rows: Sequence[int]) -> "Context":
        """A dialogue behind each of these rows, which may repeat (a group behind its prompt): nothing is copied."""
        if self.prefix is not None:
            raise ValueError("a fork cannot be forked: only one shared prefix is kept")
        layers = [(layer.keys, layer.values) for layer in self.cache.layers]
        prefix = Prefix(layers, self.used, torch.tensor(rows, device=self.used.device))
        forked = Context(self.policy, len(rows), prefix)
        forked.next_position = self.next_position[list(rows)]
        return forked

    def select(self, rows: Sequence[int]) -> "Context":
        """Copies of these rows as a context of their own; a row may be repeated.

        By `index_select`: the gradient of one index over rows and columns is six times slower on a CPU.
        """
        index = torch.tensor(rows, device=self.used.device)
        chosen = Context(self.policy, len(rows), self.prefix and self.prefix.select(index))
        columns = self.used[index].any(dim=0).nonzero()[:, 0]
        chosen.used = self.used[index][:, columns]
        chosen.next_position = self.next_position[list(rows)]
        fed = self.cache.layers if self.used.shape[1] else []  # a fork has none before its first words
        for number, layer in enumerate(fed):
            keys, values = layer.keys.index_select(0, index), layer.values.index_select(0, index)
            if len(columns) < self.used.shape[1]:
                keys, values = keys.index_select(2, columns), values.index_select(2, columns)
            chosen.cache.update(keys, values, number)
        return chosen


def prefill(policy: Policy, prompts: Sequence[TokenSpan]) -> Context:
    """The context of these prompts, read in groups of rows that keep to the policy's budgets."""
    groups = [_context(policy, prompts[group]) for group in row_groups([len(prompt.ids) for prompt in prompts], policy)]
    return groups[0] if len(groups) == 1 else _stack(policy, groups)


def row_groups(lengths: Sequence[int], policy: Policy) -> Iterator[slice]:
    """Runs of rows, each of which one forward pass can read padded to its longest; one row at least."""
    first = 0
    for last in range(len(lengths)):
        rows, width = last + 1 - first, max(lengths[first : last + 1])
        masked = len(set(lengths[first : last + 1])) > 1
        fits = rows * width <= policy.prefill_tokens and (not masked or rows * width**2 <= policy.mask_elements)
        if rows > 1 and not fits:
            yield slice(first, last)
            first = last
    yield slice(first, len(lengths))


def _context(policy: Policy, prompts: Sequence[TokenSpan]) -> Context:
    context = Context(policy, len(prompts))
    context.extend(prompts)
    return context


def _stack(policy: Policy, contexts: list[Context]) -> Context:
    """The rows of contexts without a prefix as one context, padded on the left. Takes the contexts' caches apart."""
    width = max(context.used.shape[1] for context in contexts)
    stacked = Context(policy, sum(len(context.used) for context in contexts))
    stacked.next_position = np.concatenate([context.next_position for context in contexts])
    holes = [width - context.used.shape[1] for context in contexts]
    stacked.used = torch.cat([torch.nn.functional.pad(c.used, (n, 0)) for c, n in zip(contexts, holes, strict=True)])
    for number in range(len(contexts[0].cache.layers)):
        layers = [context.cache.layers.pop(0) for context in contexts]
        keys, values = (
            torch.cat([torch.nn.functional.pad(x, (0, 0, n, 0)) for x, n in zip(side, holes, strict=True)])
            for side in ([layer.keys for layer in layers], [layer.values for layer in layers])
        )
        stacked.cache.update(keys, values, number)
    return stacked
