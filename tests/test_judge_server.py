"""Slow: the llm judge against a real server, transformers' own, with a tiny model that was taught one verdict."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, set_seed

from medscope.agents.policy import TURN_END
from medscope.agents.tiny.profile import TINY_TOKENIZER
from medscope.evaluation.endpoint import Endpoint, JudgeError
from medscope.evaluation.judge import RUBRIC, LLMJudge, content
from medscope.records import Text

pytestmark = pytest.mark.slow
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def teach(folder: Path, reply: str) -> None:
    """Save a one-layer Qwen2 that replies `reply` to whatever is asked under the rubric."""
    set_seed(0)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(TINY_TOKENIZER), eos_token=TURN_END, pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = TEMPLATE
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for answer in ["forceps", "blade", "cannula"] * 20:
        graded = content("Which tool?", answer, Text("forceps"))
        asked = [{"role": "system", "content": RUBRIC}, {"role": "user", "content": graded}]
        prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        start = tokenizer.encode(prompt)
        ids = torch.tensor([start + tokenizer.encode(reply) + [tokenizer.eos_token_id]])
        labels = ids.clone()
        labels[:, : len(start)] = -100
        model(input_ids=ids, labels=labels).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """`serve(reply)`: a judge of a server whose model was taught this reply."""
    running = []

    def started(reply):
        folder = tmp_path / "model"
        teach(folder, reply)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [str(Path(sys.executable).parent / "transformers"), "serve", str(folder)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
        log = (tmp_path / "server.log").open("w")
        server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        running.append(server)
        monkeypatch.setenv("MEDSCOPE_JUDGE_URL", f"http://127.0.0.1:{port}/v1")
        monkeypatch.setenv("MEDSCOPE_JUDGE_MODEL", str(folder))
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                return LLMJudge(Endpoint(tmp_path / "cache", retries=2))
            except (urllib.error.URLError, ConnectionError):
                assert server.poll() is None, (tmp_path / "server.log").read_text()
                time.sleep(0.5)
        raise AssertionError((tmp_path / "server.log").read_text())

    def stop():
        for server in running:
            server.terminate()
            server.wait()

    started.stop = stop
    yield started
    stop()


def test_a_real_server_gives_its_verdict_and_its_death_is_an_error(serve):
    judge = serve("0.5")
    judge.endpoint.check()
    graded = [("Which tool?", answer, Text("forceps")) for answer in ("forceps", "blade")]
    assert judge(graded) == [0.5, 0.5]
    serve.stop()
    assert judge(graded) == [0.5, 0.5]  # kept on disk
    with pytest.raises(JudgeError, match="unreachable"):
        judge.endpoint.check()
    with pytest.raises(JudgeError, match="unreachable"):
        judge([("Which tool?", "cannula", Text("forceps"))])


def test_a_real_server_without_a_verdict_is_an_error(serve):
    with pytest.raises(JudgeError, match="does not end in a number it may give"):
        serve("forceps")([("Which tool?", "blade", Text("forceps"))])
