"""What a batch of dialogues has said and seen, inside the language model: pieces of tokens and frames, and their cache.

Everything is paid for once: features once per frame, a prompt once per question (`fork` lets a group share its cache),
every later token once. Rows of different length are padded on the left; padding stays in the cache as masked
holes until `select` drops the columns that nobody uses. Works under autograd as well as without.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from transformers import DynamicCache

from medscope.agents.attention import Prefix
from medscope.agents.policy import Policy
from medscope.environment.video import PATCH_FACTOR


@dataclass
class TokenSpan:
    """Text with frames in it, encoded: token ids, the frames in order, and whether the model itself wrote it."""

    ids: list[int]
    images: list[Image.Image] = field(default_factory=list)
    assistant: bool = False


def rope_positions(ids: Sequence[int], images: Sequence[Image.Image], image_token: int, start: int) -> np.ndarray:
    """Multimodal rotary positions [3, n] (time, height, width) of a piece that begins at `start`.

    Text advances by one; an image of h x w tokens stands at one time and advances by max(h, w), as in Qwen2.5-VL.
    """
    if not images:
        return np.broadcast_to(np.arange(start, start + len(ids)), (3, len(ids)))
    positions = np.empty((3, len(ids)), dtype=np.int64)
    frames, index, now = iter(images), 0, start
    while index < len(ids):
        if ids[index] != image_token:
            positions[:, index] = now
            index, now = index + 1, now + 1
            continue
        image = next(frames)
        height, width = image.height // PATCH_FACTOR, image.width // PATCH_FACTOR
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

    def extend(self, pieces: Sequence[TokenSpan]) -> torch.Tensor:
        """Feed a piece to every row, padded on the left (an empty piece is a hole).

        Returns the last hidden states [rows, width, hidden]: `policy.base.lm_head` makes logits of those one needs.
        """
        policy, device = self.policy, self.policy.device
        width = max(len(piece.ids) for piece in pieces)
        ids = np.full((len(pieces), width), policy.tokenizer.pad_token_id)
        used = np.zeros((len(pieces), width), dtype=bool)
        positions = np.zeros((3, len(pieces), width), dtype=np.int64)
        for row, piece in enumerate(pieces):
            if piece.ids:
                here = slice(width - len(piece.ids), width)
                ids[row, here], used[row, here] = piece.ids, True
                positions[:, row, here] = rope_positions(
                    piece.ids, piece.images, policy.image_token, int(self.next_position[row])
                )
                self.next_position[row] = positions[:, row, -1].max() + 1
        self.used = torch.cat([self.used, torch.from_numpy(used).to(device)], dim=1)
        return policy.base.model.language_model(
            inputs_embeds=embed(
                policy, torch.from_numpy(ids).to(device), [image for piece in pieces for image in piece.images]
            ),
            attention_mask={"full_attention": self._attends(width)},
            position_ids=torch.from_numpy(positions).to(device),
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
