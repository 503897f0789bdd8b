"""The model that acts: build the tiny profile or load a pretrained one, encode text with frames, save as safetensors.

`tiny` is the real `Qwen2_5_VLForConditionalGeneration` with 1.5M random parameters and a frozen tokenizer; `pretrained`
is a Qwen2.5-VL checkpoint with LoRA, optionally in 4 bits. Both are used through `Policy`.
"""

import shutil
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from transformers import (
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessorPil,
    set_seed,
)

from medscope.agents.attention import FRAME_ATTENTION, PREFIX_ATTENTION
from medscope.environment.dialogue import CHAT_TEMPLATE
from medscope.environment.video import PATCH_FACTOR

TINY_TOKENIZER = Path(__file__).parent / "tiny" / "tokenizer.json"
IMAGE_TOKEN, TURN_END = "<|image_pad|>", "<|im_end|>"
# Never sampled: a stray image placeholder has no frame, and only the environment writes responses and roles.
SUPPRESSED = (
    "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|im_start|>", "<|endoftext|>",
    "<tool_response>", "</tool_response>",
)  # fmt: skip


class FrameProcessor(Qwen2_5_VLProcessor):
    """The Qwen2.5-VL processor without a video processor (which needs torchvision): every frame is an image."""

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template, **kwargs)

    def check_argument_for_proper_class(self, argument_name: str, argument: object) -> object:
        """The parent also checks its video processor, which this one does without."""
        return None if argument is None else super().check_argument_for_proper_class(argument_name, argument)


@dataclass
class Policy:
    """A model with its processor. Frame features are cached (`feature_bytes`) only while `cache_features` is set."""

    model: torch.nn.Module
    processor: FrameProcessor
    cache_features: bool = False  # right only while the vision tower does not change
    feature_bytes: int = 1 << 30
    _features: OrderedDict = field(default_factory=OrderedDict, repr=False)
    _bytes: int = 0

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        return self.processor.tokenizer

    @property
    def base(self) -> Qwen2_5_VLForConditionalGeneration:
        """The Qwen model itself, below a LoRA wrapper if there is one."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def device(self) -> torch.device:
        return self.base.device

    @property
    def image_token(self) -> int:
        return self.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)

    @property
    def turn_end(self) -> int:
        return self.tokenizer.convert_tokens_to_ids(TURN_END)

    @property
    def suppressed_tokens(self) -> list[int]:
        """Token ids that are never sampled."""
        known = self.tokenizer.get_vocab()
        return [known[token] for token in SUPPRESSED if token in known]

    def encode(self, text: str, images: Sequence[Image.Image] = ()) -> list[int]:
        """Token ids of `text`, every image placeholder widened to the number of its frame's visual tokens."""
        parts = text.split(IMAGE_TOKEN)
        if len(parts) - 1 != len(images):
            raise ValueError(f"the text has {len(parts) - 1} image placeholders for {len(images)} frames")
        widened = parts[0]
        for image, part in zip(images, parts[1:], strict=True):
            widened += IMAGE_TOKEN * visual_tokens(image) + part
        return self.tokenizer.encode(widened, add_special_tokens=False)

    def pixels(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Patches of the frames: pixel_values [patches, 1176] and image_grid_thw [frames, 3] (time, height, width)."""
        return self.processor.image_processor(list(images), do_resize=False, return_tensors="pt").to(self.device)

    def features(self, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        """Visual features [tokens, hidden] of every frame; the vision tower runs once per distinct frame."""
        keys = [image.info.get("frame", id(image)) for image in images]
        known = {key: self._features[key] for key in keys if key in self._features}
        fresh = {key: image for key, image in zip(keys, images, strict=True) if key not in known}
        if fresh:
            output = self.base.model.get_image_features(**self.pixels(list(fresh.values())), return_dict=True)
            known.update(zip(fresh, output.pooler_output, strict=True))
        if self.cache_features:
            self._remember({key: known[key] for key in fresh if isinstance(key, tuple)})
        return [known[key] for key in keys]

    def _remember(self, features: dict[tuple, torch.Tensor]) -> None:
        for key, value in features.items():
            self._features[key] = value.detach().clone()
            self._bytes += value.numel() * value.element_size()
        while self._bytes > self.feature_bytes:
            _, old = self._features.popitem(last=False)
            self._bytes -= old.numel() * old.element_size()

    def forget_features(self) -> None:
        self._features.clear()
        self._bytes = 0

    def save(self, folder: str | Path) -> Path:
        """Write model (safetensors only) and processor; the folder appears whole or not at all."""
        folder = Path(folder)
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        self.model.save_pretrained(part, safe_serialization=True)
        self.processor.save_pretrained(part)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
        return folder


def visual_tokens(image: Image.Image) -> int:
    """How many tokens a frame takes: one for every 28 x 28 px."""
    return (image.width // PATCH_FACTOR) * (image.height // PATCH_FACTOR)


def load_policy(source: str | Path, lora_rank: int = 0, load_in_4bit: bool = False, dtype: str = "float32") -> Policy:
    """Load a saved policy, a saved LoRA of one, or a Qwen2.5-VL checkpoint by name; safetensors only.

    `lora_rank` > 0 puts fresh trainable LoRA (alpha = 2 x rank) on the language model of a checkpoint without one.
    """
    source = str(source)
    if Path(source).is_dir() and not any(Path(source).glob("*.safetensors")):
        raise FileNotFoundError(f"{source} holds no *.safetensors weights; other formats are not loaded")
    adapter = Path(source) / "adapter_config.json"
    base = LoraConfig.from_pretrained(source).base_model_name_or_path if adapter.exists() else source
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=getattr(torch, dtype),
        llm_int8_skip_modules=["model.visual", "lm_head"],  # only the language model is large
    )
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        base,
        use_safetensors=True,
        dtype=getattr(torch, dtype),
        attn_implementation="sdpa",
        quantization_config=quantised if load_in_4bit else None,
    )
    if torch.cuda.is_available() and not load_in_4bit:  # bitsandbytes has put quantised weights there itself
        model.to("cuda")
    _use_our_attention(model)
    if adapter.exists():
        model = PeftModel.from_pretrained(model, source, is_trainable=True)
    elif lora_rank:
        targets = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
        model = get_peft_model(model, LoraConfig(r=lora_rank, lora_alpha=2 * lora_rank, target_modules=targets))
    processor = FrameProcessor(Qwen2VLImageProcessorPil(), AutoTokenizer.from_pretrained(source), CHAT_TEMPLATE)
    processor.tokenizer.padding_side = "left"
    return Policy(model, processor)


def tiny_policy(seed: int = 0) -> Policy:
    """The tiny profile, randomly initialised: real classes, 1.5M parameters, trains on two CPU cores."""
    set_seed(seed)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(TINY_TOKENIZER), eos_token=TURN_END, pad_token="<|endoftext|>", padding_side="left"
    )
    ids = tokenizer.get_vocab()
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(ids), "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4,
            "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.06,
            "max_position_embeddings": 4096, "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 4, 4]},
            "bos_token_id": None, "eos_token_id": ids[TURN_END], "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 3, "hidden_size": 96, "intermediate_size": 256, "num_heads": 4, "out_hidden_size": 128,
            "fullatt_block_indexes": [0, 1, 2], "initializer_range": 0.06,
        },
        image_token_id=ids[IMAGE_TOKEN], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids[IMAGE_TOKEN], vision_end_token_id=ids[IMAGE_TOKEN],  # no brackets in its tokenizer
        tie_word_embeddings=True,
    )  # fmt: skip
    model = Qwen2_5_VLForConditionalGeneration(config)
    _use_our_attention(model)
    processor = FrameProcessor(Qwen2VLImageProcessorPil(), tokenizer, CHAT_TEMPLATE)
    policy = Policy(model, processor)
    _match_feature_norm(policy)
    return policy


def _use_our_attention(model: Qwen2_5_VLForConditionalGeneration) -> None:
    """Equal frames are attended in one batch, rollouts share the keys of their prompt (see `attention`)."""
    model.model.visual.config._attn_implementation = FRAME_ATTENTION
    model.model.language_model.config._attn_implementation = PREFIX_ATTENTION


def _match_feature_norm(policy: Policy) -> None:
    """Scale the merger's last layer so that visual features start with the norm of text embeddings (10 times less)."""
    noise = torch.randint(0, 255, (8, PATCH_FACTOR, PATCH_FACTOR, 3), dtype=torch.uint8)
    with torch.no_grad():
        features = torch.cat(policy.features([Image.fromarray(frame.numpy()) for frame in noise]))
        text = policy.base.get_input_embeddings().weight
        scale = text.norm(dim=-1).mean() / features.norm(dim=-1).mean()
        last = policy.base.model.visual.merger.mlp[-1]
        last.weight.mul_(scale)
        last.bias.mul_(scale)
