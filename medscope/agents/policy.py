"""The model that acts: build the tiny profile or load a pretrained one, encode frames, save as safetensors.

`tiny` is the real `Qwen2_5_VLForConditionalGeneration` with 1.7M random parameters and a frozen tokenizer; `pretrained`
is a Qwen2.5-VL checkpoint with LoRA, optionally in 4 bits. Both are used through `Policy`.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from transformers import (
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessorPil,
    set_seed,
)

from medscope.agents.attention import FRAME_ATTENTION, PREFIX_ATTENTION
from medscope.agents.features import FeatureCache, in_chunks
from medscope.agents.tiles import tile_mlps, tile_vision
from medscope.agents.tiny.profile import tiny_model, tiny_tokenizer
from medscope.environment.prompts import CHAT_TEMPLATE
from medscope.environment.video import PATCH_FACTOR
from medscope.files import replace_folder

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
    """A model with its processor, and how much memory its forward passes may take.

    Frame features are cached (`feature_bytes`) only while `cache_features` is set, which is right only while the vision
    tower does not change. `activation_bytes` bounds what one forward without gradient computes at once, `cache_bytes`
    the keys and values of the dialogues that are generated together; both are turned into token budgets below.
    """

    model: torch.nn.Module
    processor: FrameProcessor
    cache_features: bool = False
    feature_bytes: int = 1 << 30
    activation_bytes: int = 1 << 30
    cache_bytes: int = 8 << 30

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

    @cached_property
    def feature_cache(self) -> FeatureCache:
        return FeatureCache(self.feature_bytes)

    @property
    def prefill_tokens(self) -> int:
        """Tokens that the language model reads at once: its widest activations (the MLP's three) fit the budget."""
        return self._tokens_within(self.base.config.text_config.intermediate_size)

    @property
    def gradient_tokens(self) -> int:
        """Tokens that an MLP reads at once in training: its backward pass holds about six activations as wide."""
        return max(1, self.prefill_tokens // 2)

    @property
    def vision_tokens(self) -> int:
        """Visual tokens that the vision tower encodes at once; each is made of 2 x 2 patches."""
        return self._tokens_within(4 * self.base.config.vision_config.intermediate_size)

    def _tokens_within(self, width: int) -> int:
        return max(1, self.activation_bytes // (3 * width * self.base.dtype.itemsize))

    @property
    def mask_elements(self) -> int:
        """Elements of an attention mask: SDPA holds it as one byte, as float32 and once more on the way."""
        return self.activation_bytes // 8

    @property
    def cached_tokens(self) -> int:
        """Tokens whose keys and values fit `cache_bytes`."""
        text = self.base.config.text_config
        head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        token = 2 * text.num_hidden_layers * text.num_key_value_heads * head * self.base.dtype.itemsize
        return max(1, self.cache_bytes // token)

    def encode(self, text: str) -> list[int]:
        """Token ids of trusted text: control tokens in it are tokens. For all other text there is `agents.encoding`."""
        return self.tokenizer.encode(text, add_special_tokens=False)

    def pixels(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Patches of the frames: pixel_values [patches, 1176] and image_grid_thw [frames, 3] (time, height, width)."""
        return self.processor.image_processor(list(images), do_resize=False, return_tensors="pt").to(self.device)

    def features(self, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        """Visual features [tokens, hidden] of every frame; the vision tower runs once per distinct frame."""
        keys = [image.info.get("frame", id(image)) for image in images]
        known = {key: found for key in keys if (found := self.feature_cache.get(key)) is not None}
        fresh = {key: image for key, image in zip(keys, images, strict=True) if key not in known}
        made: list[torch.Tensor] = []
        for chunk in in_chunks(list(fresh.values()), self.vision_tokens):
            made += self.base.model.get_image_features(**self.pixels(chunk), return_dict=True).pooler_output
        known.update(zip(fresh, made, strict=True))
        if self.cache_features:
            for key in fresh:
                if isinstance(key, tuple):  # a frame of a store; the id of a loose image may be given to another one
                    self.feature_cache.add(key, known[key])
        return [known[key] for key in keys]

    def bound_activations(self) -> None:
        """Let MLPs and vision tower read as many tokens at once as `activation_bytes` allows, with gradient too."""
        tile_mlps(self.base.model.language_model, self.gradient_tokens)
        tile_vision(self.base.model.visual, self.vision_tokens)

    def freeze_vision(self) -> None:
        """Keep the vision tower as it is: training reads frames by it and leaves it alone."""
        self.base.model.visual.requires_grad_(False)

    def forget_features(self) -> None:
        self.feature_cache.clear()

    def save(self, folder: str | Path, weights: dict[str, torch.Tensor] | None = None) -> Path:
        """Write model (safetensors only) and processor; the folder appears whole or not at all.

        `weights` (by name) are written instead of the model's own, which FSDP2 may have sharded.
        """
        folder = Path(folder)
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        self.model.save_pretrained(part, state_dict=weights, safe_serialization=True)
        self.processor.save_pretrained(part)
        replace_folder(part, folder)
        return folder


def load_policy(source: str | Path, lora_rank: int = 0, load_in_4bit: bool = False, dtype: str = "float32") -> Policy:
    """Load a saved policy, a saved LoRA of one, or a Qwen2.5-VL checkpoint by its Hub name; safetensors only.

    `lora_rank` > 0 puts fresh trainable LoRA (alpha = 2 x rank) on the language model of a checkpoint without one.
    Raises FileNotFoundError for a folder that is missing or holds no safetensors.
    """
    _check_folder(source)
    source = str(source)
    adapter = Path(source) / "adapter_config.json"
    base = LoraConfig.from_pretrained(source).base_model_name_or_path if adapter.exists() else source
    _check_folder(base)
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
    policy = Policy(model, processor)
    policy.bound_activations()
    return policy


def _check_folder(source: str | Path) -> None:
    """A path must be a folder with weights. Only what cannot be a path is looked up on the Hub."""
    folder = Path(source)
    if folder.is_dir():
        if not any(folder.glob("*.safetensors")):
            raise FileNotFoundError(f"{folder} holds no *.safetensors weights; other formats are not loaded")
        return
    named = isinstance(source, str) and len(folder.parts) <= 2 and not source.startswith((".", "/", "~"))
    if not named or (len(folder.parts) == 2 and folder.parent.is_dir()):
        raise FileNotFoundError(
            f"there is no checkpoint folder {folder}; run the stage that trains it (dvc repro), fetch it (dvc pull), "
            "or give the name of a Qwen2.5-VL checkpoint on the Hub"
        )


def tiny_policy(seed: int = 0) -> Policy:
    """The tiny profile, randomly initialised: real classes, 1.7M parameters, trains on two CPU cores."""
    set_seed(seed)
    tokenizer = tiny_tokenizer()
    model = tiny_model(tokenizer)
    _use_our_attention(model)
    policy = Policy(model, FrameProcessor(Qwen2VLImageProcessorPil(), tokenizer, CHAT_TEMPLATE))
    policy.bound_activations()
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
