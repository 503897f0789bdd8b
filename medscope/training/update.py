"""The update of GA-GRPO: log-probabilities of what the model itself spoke, the prompt of a group paid for once.

Two ways with equal loss and gradient (tests/test_ga_grpo.py). `_continued`: completions continue from copies of the
prompt's cache; the fastest on a CPU. `_packed`: prompt and completions of a group are one sequence, each completion
sees the prompt and itself; it needs no cache, which gradient checkpointing forbids, so it is used under that.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from medscope.agents.context import Context, TokenSpan, embed, rope_positions
from medscope.agents.policy import Policy
from medscope.agents.rollout import Rollout

ALIKE = 16  # rollouts of like length that continue together
States = Iterator[tuple[int, torch.Tensor]]  # number of a rollout, the state that predicts each token of its completion


def completion_logps(
    policy: Policy, rollouts: Sequence[Rollout], group: int, temperature: float = 1.0, banned: Sequence[int] = ()
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of every token that the model itself spoke: log-probability, entropy and the number of its rollout: [tokens]."""
    checkpointed = policy.base.is_activation_checkpointing and policy.model.training
    forward: Callable[..., States] = _packed if checkpointed else _continued
    hidden, targets, owners = [], [], []
    for number, states in forward(policy, rollouts, group):
        assistant = torch.tensor(rollouts[number].assistant_mask)
        hidden.append(states[assistant.to(states.device)])
        targets.append(torch.tensor(rollouts[number].completion)[assistant])
        owners.append(torch.full_like(targets[-1], number))
    logits = policy.base.lm_head(torch.cat(hidden)).float() / temperature
    if len(banned):
        logits = logits.index_fill(-1, torch.tensor(banned, device=logits.device), torch.finfo(logits.dtype).min)
    logps = torch.log_softmax(logits, dim=-1)
    with torch.no_grad():
        entropy = -(logps.exp() * logps).sum(-1)
    chosen = torch.cat(targets).to(logits.device)
    return logps.gather(-1, chosen[:, None])[:, 0], entropy, torch.cat(owners).to(logits.device)


def _continued(policy: Policy, rollouts: Sequence[Rollout], group: int) -> States:
    """The prompts go through the model once; completions of like length continue together from copies of its cache."""
    prompts = Context(policy, len(rollouts) // group)
    prompts.extend([TokenSpan(rollout.prompt.ids[:-1], rollout.prompt.images) for rollout in rollouts[::group]])
    by_length = sorted(range(len(rollouts)), key=lambda i: len(rollouts[i].completion))
    parts = max(1, len(rollouts) // ALIKE)
    for chunk in (by_length[len(rollouts) * i // parts : len(rollouts) * (i + 1) // parts] for i in range(parts)):
        pieces = [_fed(rollouts[i]) for i in chunk]
        states = prompts.select([i // group for i in chunk]).extend(pieces)
        for row, i in enumerate(chunk):  # padded on the left
            yield i, states[row, -len(pieces[row].ids) :]


def _packed(policy: Policy, rollouts: Sequence[Rollout], group: int) -> States:
    """One sequence per question: its prompt, then the completions, positions as if each followed the prompt."""
    for first in range(0, len(rollouts), group):
        prompt = rollouts[first].prompt
        pieces = [TokenSpan(prompt.ids[:-1], prompt.images), *(_fed(r) for r in rollouts[first : first + group])]
        start, positions = 0, []
        for piece in pieces:
            positions.append(rope_positions(piece.ids, piece.images, policy.image_token, start))
            start = int(positions[0].max()) + 1  # every completion follows the prompt
        lengths = [len(piece.ids) for piece in pieces]
        states = policy.base.model.language_model(
            inputs_embeds=embed(
                policy,
                torch.tensor([[token for piece in pieces for token in piece.ids]], device=policy.device),
                [image for piece in pieces for image in piece.images],
            ),
            attention_mask={"full_attention": packed_mask(lengths).to(policy.device)[None, None]},
            position_ids=torch.from_numpy(np.concatenate(positions, axis=1))[:, None].to(policy.device),
            use_cache=False,
        ).last_hidden_state[0]
        yield from ((first + i, part) for i, part in enumerate(states.split(lengths)[1:]))


def packed_mask(lengths: Sequence[int]) -> torch.Tensor:
    """Who attends to whom in a packed group [tokens, tokens]: earlier tokens of the first part (the prompt) or its own.

    `lengths` are those of the prompt and of the completions.
    """
    part = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    causal = torch.ones(len(part), len(part), dtype=torch.bool).tril()
    return causal & ((part[None] == 0) | (part[None] == part[:, None]))


def _fed(rollout: Rollout) -> TokenSpan:
    """What the model reads while it says the completion: the last token of the prompt, and all but the last said."""
    return TokenSpan([rollout.prompt.ids[-1], *rollout.completion[:-1]], rollout.images)


def policy_loss(logps: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
    """-(ratio x A), the mean over the model's own tokens. logps and the advantages of their rollouts, both [tokens]."""
    ratio = torch.exp(logps - logps.detach())
    return -(ratio * advantages).mean()


def importance(logps: torch.Tensor, sampled: torch.Tensor, most: float = 2.0) -> torch.Tensor:
    """min(pi / pi of the engine, `most`), a constant weight per token: what another engine sampled with log-probability
    `sampled` [tokens], the policy says with `logps` [tokens] (truncated importance sampling)."""
    return (logps.detach() - sampled).exp().clamp(max=most)
