"""The update of GA-GRPO: log-probabilities of the policy's own tokens, the prompt of a group computed once, the loss.

Input: rollouts, `num_generations` in a row per task. Output: per assistant token its log-probability under the policy
(with gradient), its entropy, and the number of its rollout.

Two forwards with equal loss and gradient (tests/test_ga_grpo.py). `_continued`: completions continue from copies of
the prompt's cache; the fastest on a CPU. `_packed`: prompt and completions of a group are one sequence; it needs no
cache, which gradient checkpointing forbids, so it is used under that. Both call the parts of the model directly.

Simplified: what a layer's checkpoint keeps is linear in the tokens of a group, prompt and completions, and is not cut:
7 kB a token and layer for the 7B.

Logits [tokens, vocabulary] are made for LOGIT_ELEMENTS at a time and again in the backward pass, never for all tokens.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint
from trl.models.utils import _ForwardRedirection

from medscope.agents.context import Context, embed, rope_positions, row_groups
from medscope.agents.encoding import TokenSpan
from medscope.agents.policy import Policy
from medscope.agents.rollout import Rollout
from medscope.training.packed import PACKED_ATTENTION

ALIKE = 16  # rollouts of like length that continue together, where they fit the token budget (`row_groups`)
LOGIT_ELEMENTS = 1 << 25  # tokens x vocabulary at once: 128 MiB in float32
States = Iterator[tuple[int, torch.Tensor]]  # number of a rollout, the state that predicts each token of its completion


def completion_logps(
    policy: Policy,
    rollouts: Sequence[Rollout],
    num_generations: int,
    temperature: float = 1.0,
    suppressed_tokens: Sequence[int] = (),
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of every assistant token: log-probability, entropy and the number of its rollout: [tokens] each.

    Of the distribution that was sampled from: logits over `temperature`, `suppressed_tokens` left out.
    """
    checkpointed = policy.base.is_activation_checkpointing and policy.model.training
    forward: Callable[..., States] = _packed if checkpointed else _continued
    hidden, targets, owners = [], [], []
    for number, states in forward(policy, rollouts, num_generations):
        assistant = torch.tensor(rollouts[number].assistant_mask)
        hidden.append(states[assistant.to(states.device)])
        targets.append(torch.tensor(rollouts[number].completion)[assistant])
        owners.append(torch.full_like(targets[-1], number))
    hidden_TD, targets_T = torch.cat(hidden), torch.cat(targets).to(hidden[0].device)
    logps, entropy = token_logps(policy.base.lm_head, hidden_TD, targets_T, temperature, suppressed_tokens)
    return logps, entropy, torch.cat(owners).to(logps.device)


def token_logps(
    lm_head: torch.nn.Module,
    hidden_TD: torch.Tensor,
    targets_T: torch.Tensor,
    temperature: float = 1.0,
    suppressed_tokens: Sequence[int] = (),
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the targets and entropies, [tokens] each, from hidden states [tokens, hidden].

    By chunks of LOGIT_ELEMENTS, whose logits the backward pass makes again. What fits into one chunk is computed
    directly. All chunks are one call of the head: its weights may be sharded (`sharded`).
    """
    suppressed = torch.tensor(list(suppressed_tokens), dtype=torch.long, device=hidden_TD.device)
    return _ForwardRedirection()(
        lm_head, lm_head, _logps_by_chunks, hidden_TD, targets_T, lm_head, temperature, suppressed
    )


def _logps_by_chunks(
    hidden_TD: torch.Tensor,
    targets_T: torch.Tensor,
    lm_head: torch.nn.Module,
    temperature: float,
    suppressed: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    size = max(1, LOGIT_ELEMENTS // lm_head.weight.shape[0])
    if len(hidden_TD) <= size:
        return _chunk_logps(lm_head, hidden_TD, targets_T, temperature, suppressed)
    parts = [
        checkpoint(
            _chunk_logps, lm_head, hidden, targets, temperature, suppressed,
            use_reentrant=False, preserve_rng_state=False,
        )
        for hidden, targets in zip(hidden_TD.split(size), targets_T.split(size), strict=True)
    ]  # fmt: skip
    logps, entropy = zip(*parts, strict=True)
    return torch.cat(logps), torch.cat(entropy)


def _chunk_logps(
    lm_head: torch.nn.Module,
    hidden_TD: torch.Tensor,
    targets_T: torch.Tensor,
    temperature: float,
    suppressed: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    logits_TV = lm_head.forward(hidden_TD).float() / temperature  # inside its call
    if len(suppressed):
        logits_TV = logits_TV.index_fill(-1, suppressed, torch.finfo(logits_TV.dtype).min)
    logps_TV = torch.log_softmax(logits_TV, dim=-1)
    with torch.no_grad():
        entropy = -(logps_TV.exp() * logps_TV).sum(-1)
    return logps_TV.gather(-1, targets_T[:, None])[:, 0], entropy


def _continued(policy: Policy, rollouts: Sequence[Rollout], num_generations: int) -> States:
    """The prompts go through the model once; completions of like length continue together from copies of its cache."""
    prompts = Context(policy, len(rollouts) // num_generations)
    prompts.extend(
        [TokenSpan(rollout.prompt.ids[:-1], rollout.prompt.images) for rollout in rollouts[::num_generations]]
    )
    by_length = sorted(range(len(rollouts)), key=lambda i: len(rollouts[i].completion))
    parts = max(1, len(rollouts) // ALIKE)
    for chunk in (by_length[len(rollouts) * i // parts : len(rollouts) * (i + 1) // parts] for i in range(parts)):
        spans = [_read_span(rollouts[i]) for i in chunk]
        for some in row_groups([len(span.ids) for span in spans], policy):
            states = prompts.select([i // num_generations for i in chunk[some]]).extend(spans[some])
            for i, span, row in zip(chunk[some], spans[some], states, strict=True):  # padded on the left
                yield i, row[-len(span.ids) :]


def _packed(policy: Policy, rollouts: Sequence[Rollout], num_generations: int) -> States:
    """One sequence per task: its prompt, then the completions, positions as if each followed the prompt."""
    model = policy.base.model.language_model
    model.config._attn_implementation = PACKED_ATTENTION  # stays: the backward pass runs the layers again
    for first in range(0, len(rollouts), num_generations):
        prompt, group = rollouts[first].prompt, rollouts[first : first + num_generations]
        spans = [TokenSpan(prompt.ids[:-1], prompt.images), *(_read_span(rollout) for rollout in group)]
        start, positions = 0, []
        for span in spans:
            positions.append(rope_positions(span, policy.image_token, start))
            start = int(positions[0].max()) + 1  # every completion follows the prompt
        lengths = [len(span.ids) for span in spans]
        states = model(
            inputs_embeds=embed(
                policy,
                torch.tensor([[token for span in spans for token in span.ids]], device=policy.device),
                [image for span in spans for image in span.images],
            ),
            attention_mask={"full_attention": None},
            position_ids=torch.from_numpy(np.concatenate(positions, axis=1))[:, None].to(policy.device),
            use_cache=False,
            packed_lengths=lengths,
        ).last_hidden_state[0]
        yield from ((first + i, part) for i, part in enumerate(states.split(lengths)[1:]))


def _read_span(rollout: Rollout) -> TokenSpan:
    """What the model reads while it says the completion: the last token of the prompt, and all but the last said."""
    return TokenSpan([rollout.prompt.ids[-1], *rollout.completion[:-1]], rollout.images)


def policy_loss(logps: torch.Tensor, advantages: torch.Tensor, tokens: float) -> torch.Tensor:
    """-(ratio x A) summed over assistant tokens and divided by `tokens`, those of the whole batch.

    `logps` and the advantages of their rollouts are [tokens here]. The sum over the parts of a batch (micro-batches,
    ranks) is the loss of the batch, however it is cut. The ratio is 1 in value; its gradient is that of the logps.
    """
    ratio = torch.exp(logps - logps.detach())
    return -(ratio * advantages).sum() / tokens


def importance(logps: torch.Tensor, sampled: torch.Tensor, most: float = 2.0) -> torch.Tensor:
    """Truncated importance sampling: min(pi / pi_sampling, `most`), a constant weight per token [tokens].

    `logps` are the policy's, `sampled` those of the distribution from which the tokens were really drawn.
    """
    return (logps.detach() - sampled).exp().clamp(max=most)
