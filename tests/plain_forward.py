"""Log-probabilities of a rollout by one plain forward over its whole dialogue: what the engine is compared with."""

import torch

from medscope.agents.policy import Policy
from medscope.agents.rollout import Rollout


def full_logps(policy: Policy, ids: list[int], images: list) -> torch.Tensor:
    """Log-probabilities [tokens, vocabulary] of one plain forward over a dialogue, suppressed tokens left out."""
    tokens = torch.tensor([ids])
    pixels = policy.pixels(images)
    pixels["pixel_values"] = pixels["pixel_values"].to(policy.base.dtype)
    with torch.no_grad():
        logits = policy.model(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            mm_token_type_ids=(tokens == policy.image_token).int(),
            **pixels,
        ).logits[0]
    logits[:, policy.suppressed_tokens] = -torch.inf
    return torch.log_softmax(logits.float(), dim=-1)


def plain_logps(policy: Policy, rollout: Rollout, first_span: int = 0) -> list[float]:
    """The plain forward's log-probabilities of the assistant's tokens, from span `first_span` on."""
    logps = full_logps(policy, rollout.prompt.ids + rollout.completion, rollout.prompt.images + rollout.images)
    position, found = len(rollout.prompt.ids), []
    for number, span in enumerate(rollout.spans):
        if span.assistant and number >= first_span:
            found += [logps[position + i - 1, token].item() for i, token in enumerate(span.ids)]
        position += len(span.ids)
    return found
