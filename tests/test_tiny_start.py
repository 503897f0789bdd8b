"""How the tiny model starts: two heads look back by position, and numbers are sums of their digits."""

import torch

from medscope.agents.policy import tiny_policy

LENGTH = 40  # tokens


def test_two_heads_of_the_first_layer_look_one_and_two_tokens_back():
    policy = tiny_policy(seed=0)
    policy.model.set_attn_implementation("eager")
    ids = torch.randint(len(policy.tokenizer), (1, LENGTH), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output = policy.model.model.language_model(input_ids=ids, output_attentions=True)
    first_layer = output.attentions[0][0]  # heads x queries x keys
    for head, offset in ((0, 1), (1, 2)):
        assert first_layer[head].diagonal(-offset).min() > 0.9
    for head in (2, 3):  # drawn heads, as every pretrained model starts
        assert first_layer[head].diagonal(-1).mean() < 0.3


def test_a_number_is_the_sum_of_its_digits():
    policy = tiny_policy(seed=0)
    ids = policy.tokenizer.get_vocab()
    vectors = policy.model.get_input_embeddings().weight
    numbers = {n: vectors[ids[f"\u0120{n}"]] for n in (138, 139, 148, 149)}
    assert torch.allclose(numbers[138] + numbers[149], numbers[139] + numbers[148], atol=1e-6)
    assert not torch.allclose(numbers[138], numbers[139], atol=1e-2)
