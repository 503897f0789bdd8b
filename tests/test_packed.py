"""Packed attention and chunked logits: equal to the plain computation however they are cut, and small in memory."""

import torch
from largest import Largest

from medscope.training import packed, update
from medscope.training.packed import completion_mask, packed_attention
from medscope.training.update import token_logps


def test_in_a_packed_group_a_completion_sees_the_prompt_and_itself():
    assert completion_mask(2, [1, 2]).int().tolist() == [
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 1],
    ]


def packed_values(lengths, monkeypatch, elements):
    """Output and gradient of the attention of a packed group in float64, completions cut by `elements`."""
    monkeypatch.setattr(packed, "MASK_ELEMENTS", elements)
    torch.manual_seed(0)
    query = torch.randn(1, 4, sum(lengths), 8, dtype=torch.float64, requires_grad=True)
    key, value = (torch.randn(1, 2, sum(lengths), 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    output, _ = packed_attention(None, query, key, value, None, 0.3, packed_lengths=lengths)
    output.square().sum().backward()
    return output, query.grad, key.grad, value.grad


def test_packed_attention_equals_one_masked_softmax_however_completions_are_cut(monkeypatch):
    lengths = [5, 2, 3, 1, 4]
    whole = packed_values(lengths, monkeypatch, 1 << 25)
    for elements in (1, 40, 100):
        for one, other in zip(packed_values(lengths, monkeypatch, elements), whole, strict=True):
            torch.testing.assert_close(one, other)
    torch.manual_seed(0)
    query = torch.randn(1, 4, 15, 8, dtype=torch.float64)
    key, value = (torch.randn(1, 2, 15, 8, dtype=torch.float64).repeat_interleave(2, 1) for _ in range(2))
    part = torch.repeat_interleave(torch.arange(5), torch.tensor(lengths))
    seen = ((part[None] == 0) | (part[None] == part[:, None])).tril()
    scores = (0.3 * query @ key.transpose(2, 3)).masked_fill(~seen, -torch.inf)
    torch.testing.assert_close(whole[0], (scores.softmax(-1) @ value).transpose(1, 2))


def test_attention_of_a_packed_group_needs_memory_linear_in_the_prompt():
    largest = {}
    for prompt in (2000, 4000):
        lengths = [prompt, 20, 30, 10]
        query = torch.randn(1, 2, sum(lengths), 8, requires_grad=True)
        with Largest() as seen:
            packed_attention(None, query, query, query, None, 1.0, packed_lengths=lengths)[0].sum().backward()
        largest[prompt] = seen.elements
    assert largest[4000] < 2.1 * largest[2000] and largest[4000] < 4000 * 100  # a mask of all would be 4060^2


def test_no_mask_of_a_packed_group_is_kept_for_the_backward_pass():
    lengths = [300, 20, 30, 10]
    query = torch.randn(1, 2, sum(lengths), 8, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        packed_attention(None, query, query, query, None, 1.0, packed_lengths=lengths)
    assert kept and not [x for x in kept if x.dtype == torch.bool]
    assert max(x.numel() for x in kept) <= query.numel()


def test_logits_in_chunks_give_the_same_values_and_gradient_and_are_not_kept(monkeypatch):
    torch.manual_seed(0)
    tokens, vocabulary = 60, 1000
    head = torch.nn.Linear(8, vocabulary, bias=False)
    hidden, targets = torch.randn(tokens, 8, requires_grad=True), torch.randint(0, vocabulary, (tokens,))

    def measured(elements):
        monkeypatch.setattr(update, "LOGIT_ELEMENTS", elements)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
            logps, entropy = token_logps(head, hidden, targets, 0.7, [3, 5])
            size = max(kept)
        gradients = torch.autograd.grad((logps * torch.arange(tokens)).sum(), [hidden, head.weight])
        return (logps, entropy, *gradients), size

    whole, whole_size = measured(tokens * vocabulary)
    parts, parts_size = measured(7 * vocabulary)
    for one, other in zip(parts, whole, strict=True):
        torch.testing.assert_close(one, other)
    assert whole_size == tokens * vocabulary and parts_size <= 8 * vocabulary  # the weights of the head
    plain = (head(hidden) / 0.7).index_fill(-1, torch.tensor([3, 5]), -1e30)
    distribution = torch.distributions.Categorical(logits=plain)
    torch.testing.assert_close(whole[0], distribution.log_prob(targets))
    torch.testing.assert_close(whole[1], distribution.entropy())
