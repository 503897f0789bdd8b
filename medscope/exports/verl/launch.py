"""GA-GRPO by verl: `python -m medscope.exports.verl.launch DIR [key=value ..]`, DIR written by `medscope.exports verl`.

Before anything starts: our parts are registered, verl's own validation accepts the configuration, and the advantage is
ours. `--check` ends there.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from verl.trainer.main_ppo import TaskRunnerV1, run_ppo
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config

from medscope.environment import ToolBudget
from medscope.environment.video import PATCH_FACTOR
from medscope.exports.verl.agent_loop import LOOP, PARSER
from medscope.exports.verl.plugin import check_registered
from medscope.exports.verl.trainer import check_algorithm

CONFIG = Path(__file__).with_name("qwen2.5-vl-7b-8x80gb.yaml")
FILES = ("rl.parquet", "tools.yaml", "chat_template.jinja")


def configuration(data: str | Path, changes: Sequence[str] = (), config: Path = CONFIG) -> DictConfig:
    """verl's configuration with ours over it, for the exported folder `data`, then `changes` (`key=value`).

    Raises FileNotFoundError for a folder without the exported files.
    """
    data = Path(data).absolute()
    if missing := [name for name in FILES if not (data / name).is_file()]:
        raise FileNotFoundError(f"{data} has no {', '.join(missing)}; write it with `python -m medscope.exports verl`")
    with initialize_config_dir(str(config.absolute().parent), version_base=None):
        made = compose(config.stem, overrides=list(changes))
    made.data.train_files = made.data.val_files = str(data / FILES[0])
    made.actor_rollout_ref.rollout.multi_turn.tool_config_path = str(data / FILES[1])
    made.actor_rollout_ref.model.custom_chat_template = (data / FILES[2]).read_text("utf-8")
    multi_turn = made.actor_rollout_ref.rollout.multi_turn
    if multi_turn.max_assistant_turns is None:
        multi_turn.max_assistant_turns = _budget(made).max_calls + 2
    return made


def _budget(config: DictConfig) -> ToolBudget:
    """The budget of the export."""
    file = Path(config.actor_rollout_ref.rollout.multi_turn.tool_config_path)
    return ToolBudget(**yaml.safe_load(file.read_text("utf-8"))["tools"][0]["config"]["budget"])


def check(config: DictConfig) -> None:
    """What can be wrong before a GPU is touched. Raises RuntimeError, ValueError or verl's AssertionError."""
    check_registered()
    check_algorithm(config)
    rollout, budget = config.actor_rollout_ref.rollout, _budget(config)
    tokens = budget.skim_frames * (budget.skim_pixels // PATCH_FACTOR**2)
    if tokens >= config.data.max_prompt_length:
        raise ValueError(
            f"data.max_prompt_length is {config.data.max_prompt_length}; the {budget.skim_frames} coarse frames of the "
            f"export alone have {tokens} tokens: export again with a --budget of fewer or smaller frames"
        )
    wanted = {"format": PARSER, "max_parallel_calls": 1, "max_assistant_turns": budget.max_calls + 2}
    for name, value in wanted.items():
        if rollout.multi_turn[name] != value:
            raise ValueError(f"rollout.multi_turn.{name} is {rollout.multi_turn[name]!r}; it must be {value!r}")
    if rollout.agent.default_agent_loop != LOOP:
        raise ValueError(f"rollout.agent.default_agent_loop is {rollout.agent.default_agent_loop!r}, not {LOOP!r}")
    validate_config(config, need_reference_policy(config), need_critic(config))


def main(arguments: Sequence[str] | None = None) -> int:
    """0: checked (with --check) or trained. 2: refused, and why."""
    parser = argparse.ArgumentParser(prog="python -m medscope.exports.verl.launch", description=__doc__)
    parser.add_argument("data", type=Path, help="the folder that `python -m medscope.exports verl` wrote")
    parser.add_argument("changes", nargs="*", metavar="key=value", help="changes, as hydra takes them")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--check", action="store_true", help="check and stop")
    options = parser.parse_args(arguments)
    try:
        config = configuration(options.data, options.changes, options.config)
        check(config)
    except (OSError, ValueError, RuntimeError, AssertionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not options.check:
        run_ppo(config, task_runner_class=TaskRunnerV1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
