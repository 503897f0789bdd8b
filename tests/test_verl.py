"""GA-GRPO under verl's own classes repeats our rollouts, rewards and advantages. Run by `make verl-test`.

verl has an environment of its own. What our engine and trainer have done, and its export, is written by
`tests/verl_rollouts.py` in ours; the model's part is played by a server that says the recorded tokens.
"""

import asyncio
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("verl", reason="verl has an environment of its own: make verl-env && make verl-test")

import ray
import torch
import transfer_queue
import yaml
from hydra.errors import InstantiationException
from omegaconf import OmegaConf, open_dict
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from transformers import AutoTokenizer, Qwen2_5_VLProcessor, Qwen2VLImageProcessorPil
from verl import DataProto
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, DictConfigWrap, ToolListWrap
from verl.tools.tool_registry import load_all_tools
from verl.trainer.ppo.reward import load_reward_manager
from verl.trainer.ppo.utils import create_rl_dataset
from verl.utils.tensordict_utils import list_of_dict_to_tensordict
from verl.workers.rollout.replica import TokenOutput

from medscope.exports.verl import launch, plugin
from medscope.exports.verl.agent_loop import MedScopeAgentLoop
from medscope.exports.verl.tools import CALLS
from medscope.exports.verl.trainer import EvidenceTrainer

ROOT = Path(__file__).parents[1]
EXPORTED = Path(os.environ["MEDSCOPE_VERL_EXPORT"])
GROUPS = [json.loads(line) for line in (EXPORTED / "rollouts.jsonl").read_text("utf-8").splitlines()]


class Processor(Qwen2_5_VLProcessor):
    """Without the video processor, which needs torchvision; frames keep their size."""

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template, **kwargs)

    def check_argument_for_proper_class(self, argument_name, argument):
        return None if argument is None else super().check_argument_for_proper_class(argument_name, argument)


class RecordedServer:
    """Says the recorded turns of one rollout, instead of a model."""

    def __init__(self, rollout):
        self.turns = [span["ids"] for span in rollout["spans"] if span["assistant"]]
        self.asked = []

    async def generate(self, **request):
        self.asked.append(request)
        return TokenOutput(
            token_ids=self.turns[len(self.asked) - 1], log_probs=None, extra_fields={"max_global_steps": 1}
        )


@pytest.fixture(scope="module")
def config():
    """The configuration for 8 x 80 GB, with the tiny model's lengths."""
    made = launch.configuration(EXPORTED)
    with open_dict(made):
        made.data.max_prompt_length, made.data.max_response_length = 2048, 4096
    return made


@pytest.fixture(scope="module")
def processor(config):
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "models" / "tiny")
    template = config.actor_rollout_ref.model.custom_chat_template
    images = Qwen2VLImageProcessorPil(size={"shortest_edge": 784, "longest_edge": 50_176})
    return Processor(images, tokenizer, template)


@pytest.fixture(scope="module")
def data(config, processor):
    return create_rl_dataset(config.data.train_files, config.data, processor.tokenizer, processor)


@pytest.fixture(scope="module")
def played(config, processor, data):
    """`played[group][rollout]`: verl's agent loop over the recorded turns."""
    tools = load_all_tools(config.actor_rollout_ref.rollout.multi_turn.tool_config_path, None)

    async def play(row, rollout):
        server = RecordedServer(rollout)
        loop = MedScopeAgentLoop(
            trainer_config=DictConfigWrap(config), server_manager=server, tokenizer=processor.tokenizer,
            processor=processor, dataset_cls=type(data), data_config=DictConfigWrap(config.data),
            hf_model_type="qwen2_5_vl", tools=ToolListWrap(tools),
        )  # fmt: skip
        output = await loop.run({"temperature": 1.0}, **row)
        return SimpleNamespace(output=output, asked=server.asked, row=row)

    async def all_of_them():
        return [[await play(data[i], r) for r in group["rollouts"]] for i, group in enumerate(GROUPS)]

    return asyncio.run(all_of_them())


def score(config, processor, one):
    """verl's reward manager on one dialogue, given what its agent loop worker gives it."""
    output, row = one.output, one.row
    prompt, response = torch.tensor([output.prompt_ids]), torch.tensor([output.response_ids])
    ids = torch.cat([prompt, response], 1)
    tensors = {"prompts": prompt, "responses": response, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    rest = {
        "data_source": row["data_source"],
        "reward_model": row["reward_model"],
        "extra_info": dict(row["extra_info"]),
        "tool_extra_fields": output.extra_fields,
        "__num_turns__": output.num_turns,
    }
    batch = DataProto(
        batch=TensorDict(tensors, batch_size=1), non_tensor_batch={k: np.array([v], object) for k, v in rest.items()}
    )

    async def run():
        return await load_reward_manager(config, processor.tokenizer).run_single(batch)

    return asyncio.run(run())


@pytest.fixture(scope="module")
def scored(config, processor, played):
    return [[score(config, processor, one) for one in group] for group in played]


def test_our_parts_are_registered_by_the_entry_point_alone():
    import subprocess
    import sys

    code = (
        "import verl, sys; from verl.trainer.ppo.v1 import get_trainer_cls as g; print(g('medscope_sync').__module__)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip().endswith("medscope.exports.verl.trainer"), run.stderr
    plugin.check_registered()


def test_verl_accepts_the_configuration():
    config = launch.configuration(EXPORTED)
    launch.check(config)
    assert config.trainer.n_gpus_per_node == 8 and config.actor_rollout_ref.rollout.n == 8
    budget = yaml.safe_load((EXPORTED / "tools.yaml").read_text())["tools"][0]["config"]["budget"]
    assert config.actor_rollout_ref.rollout.multi_turn.max_assistant_turns == budget["max_calls"] + 2


def test_frames_that_do_not_fit_the_prompt_are_refused(tmp_path):
    """verl would filter every prompt out, and say so once."""
    exported = Path(shutil.copytree(EXPORTED, tmp_path / "exported"))
    tools = yaml.safe_load((exported / "tools.yaml").read_text())
    for tool in tools["tools"]:
        tool["config"]["budget"] |= {"skim_frames": 512, "skim_pixels": 50176}
    (exported / "tools.yaml").write_text(yaml.safe_dump(tools))
    with pytest.raises(
        ValueError, match="max_prompt_length is 20480; the 512 coarse frames of the export alone have 32768"
    ):
        launch.check(launch.configuration(exported))


@pytest.mark.parametrize(
    "change",
    [
        "algorithm.norm_adv_by_std_in_grpo=true",
        "algorithm.adv_estimator=rloo",
        "trainer.v1.medscope_sync.modulation=ternary",
        "actor_rollout_ref.rollout.n=1",
        "actor_rollout_ref.rollout.multi_turn.max_assistant_turns=3",
        "actor_rollout_ref.rollout.agent.default_agent_loop=tool_agent",
        "actor_rollout_ref.actor.ppo_mini_batch_size=32",  # two updates per batch
        "actor_rollout_ref.actor.use_kl_loss=true",
        "actor_rollout_ref.actor.loss_agg_mode=typo",  # refused by verl
    ],
)
def test_a_configuration_with_another_advantage_or_loop_is_refused(change):
    setting = change.split("=")[0].split(".", 1)[1].removeprefix("actor.")
    with pytest.raises((ValueError, AssertionError, InstantiationException), match=setting):  # the last: hydra's
        launch.check(launch.configuration(EXPORTED, [change]))


def test_prompts_are_ours_token_by_token(played):
    for group, recorded in zip(played, GROUPS, strict=True):
        assert group[0].output.prompt_ids == recorded["prompt"]


def test_dialogues_are_ours_token_by_token(played):
    for group, recorded in zip(played, GROUPS, strict=True):
        for one, rollout in zip(group, recorded["rollouts"], strict=True):
            spans = [span for span in rollout["spans"] if span["ids"]]
            assert one.output.response_ids == [token for span in spans for token in span["ids"]]
            assert one.output.response_mask == [int(span["assistant"]) for span in spans for _ in span["ids"]]


def test_every_call_is_executed_or_refused_as_by_us(played):
    for group, recorded in zip(played, GROUPS, strict=True):
        for one, rollout in zip(group, recorded["rollouts"], strict=True):
            assert one.output.extra_fields.get(CALLS, []) == rollout["calls"]


def test_the_server_is_told_what_it_may_not_say(played, processor):
    asked = played[0][0].asked[0]["sampling_params"]
    forged = processor.tokenizer.convert_tokens_to_ids("<tool_response>")
    assert asked["max_tokens"] == 160 and asked["logit_bias"][forged] == -100 and asked["temperature"] == 1.0


def test_rewards_are_ours(scored):
    for group, recorded in zip(scored, GROUPS, strict=True):
        for found, rollout in zip(group, recorded["rollouts"], strict=True):
            ours = rollout["reward"]
            assert found["reward_score"] == pytest.approx(ours["total"], abs=1e-6)
            names = {"accuracy": "acc", "format": "format", "crop": "crop", "frame": "frame"}
            for name, theirs in names.items():
                assert found["reward_extra_info"][theirs] == pytest.approx(ours[name], abs=1e-6)


def test_a_failed_tool_is_no_reward(config, processor, played):
    one = played[0][0]
    output = one.output.model_copy(
        update={"extra_fields": one.output.extra_fields | {"medscope_failure": "VideoError"}}
    )
    with pytest.raises(RuntimeError, match="VideoError"):
        score(config, processor, SimpleNamespace(output=output, row=one.row))


def test_the_stock_agent_loop_is_no_reward(config, processor, played):
    one = played[0][0]
    output = one.output.model_copy(update={"extra_fields": {}})
    with pytest.raises(ValueError, match="default_agent_loop=medscope"):
        score(config, processor, SimpleNamespace(output=output, row=one.row))


class Memory:
    """What the trainer asks of TransferQueue, for one batch in this process: needs no Ray."""

    def __init__(self):
        self.fields = TensorDict({})

    def put(self, keys, partition_id, fields=None, tags=None):
        self.fields = TensorDict({**dict(self.fields.items()), **dict(fields.items())}, batch_size=len(keys))
        return KVBatchMeta(partition_id=partition_id, keys=keys, tags=tags or [{} for _ in keys])

    def get(self, keys, partition_id, select_fields):
        return self.fields.select(*select_fields, strict=False)


@pytest.fixture(scope="module", params=["memory", "transfer_queue"])
def queue(request):
    """The store of verl's trainer: in memory, and verl's own on a small Ray of this machine."""
    if request.param == "memory":
        with pytest.MonkeyPatch.context() as patch:
            memory = Memory()
            patch.setattr(transfer_queue, "kv_batch_put", memory.put)
            patch.setattr(transfer_queue, "kv_batch_get", memory.get)
            yield
        return
    try:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    except Exception as error:  # Ray gives up on a busy machine
        pytest.skip(f"Ray does not start here: {error}")
    settings = {"backend": {"SimpleStorage": {"num_data_storage_units": 1, "total_storage_size": 1000}}}
    transfer_queue.init(OmegaConf.create(settings))
    yield
    transfer_queue.close()
    ray.shutdown()


@pytest.mark.parametrize("mode", ["none", "binary", "continuous"])
def test_advantages_are_ours(mode, config, played, scored, queue):
    made = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    made.trainer.v1.medscope_sync.modulation = mode
    trainer = EvidenceTrainer(made)
    assert trainer.trainer_mode == "sync"
    keys, fields = [], []
    for number, (group, rewards) in enumerate(zip(played, scored, strict=True)):
        for session, (one, reward) in enumerate(zip(group, rewards, strict=True)):
            extra = one.output.extra_fields | {"reward_extra_info": reward["reward_extra_info"]}
            output = one.output.model_copy(
                update={"reward_score": reward["reward_score"], "extra_fields": extra, "metrics": AgentLoopMetrics()}
            )
            keys.append(f"{mode}{number}_{session}_0")
            fields.append({k: v for k, v in output.as_dict().items() if k != "multi_modal_data"} | {"uid": f"{number}"})
    tags = [{"status": "success"} for _ in keys]
    transfer_queue.kv_batch_put(keys=keys, partition_id="train", fields=list_of_dict_to_tensordict(fields), tags=tags)
    metrics = {}
    batch = trainer._compute_advantage(KVBatchMeta(partition_id="train", keys=keys, tags=tags), metrics)
    found = transfer_queue.kv_batch_get(keys=batch.keys, partition_id="train", select_fields=["advantages"])
    expected = [advantage for group in GROUPS for advantage in group["advantages"][mode]]
    for row, one, advantage in zip(
        found["advantages"].unbind(), [one for group in played for one in group], expected, strict=True
    ):
        mask = torch.tensor(one.output.response_mask, dtype=row.dtype)
        torch.testing.assert_close(row, mask * advantage, atol=1e-6, rtol=0)
    assert metrics["medscope/used_tool/mean"] == pytest.approx(
        np.mean([bool(any(c["looked"] for c in r["calls"])) for g in GROUPS for r in g["rollouts"]])
    )
