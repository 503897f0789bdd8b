"""verl's data set; it opens the frames as they were exported, which is the size that the model is shown."""

from typing import Any

from PIL import Image
from verl.utils.dataset.rl_dataset import RLHFDataset

Messages = list[dict[str, Any]]


class FrameDataset(RLHFDataset):
    """Set as `data.custom_cls`. The stock data set resizes by `qwen_vl_utils`, within limits of its own."""

    @classmethod
    def _process_multi_modal_info(
        cls, messages: Messages, image_patch_size: int, config: Any
    ) -> tuple[list[Image.Image] | None, None, None]:
        """The frames, no videos, no sound; verl calls it for lengths, and beside its event loop for dialogues."""
        return open_frames(messages), None, None


def open_frames(messages: Messages) -> list[Image.Image] | None:
    """Every image block's file, in order; None without any. Raises OSError for a file that cannot be read."""
    blocks = [block for message in messages if isinstance(message["content"], list) for block in message["content"]]
    images = [Image.open(block["image"]).convert("RGB") for block in blocks if block["type"] == "image"]
    return images or None
