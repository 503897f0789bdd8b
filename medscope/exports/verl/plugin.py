"""The entry point `verl.plugins`: verl imports this module in each of its processes, and our parts register.

verl hides an error of a plugin. `check_registered` shows it; the launcher calls it before anything starts.
"""

from verl.experimental.agent_loop.agent_loop import _agent_loop_registry
from verl.experimental.agent_loop.tool_parser import ToolParser
from verl.trainer.ppo.v1 import get_trainer_cls

from medscope.exports.verl.agent_loop import LOOP, PARSER, GrammarParser, MedScopeAgentLoop
from medscope.exports.verl.trainer import TRAINER, EvidenceTrainer


def check_registered() -> None:
    """Raise RuntimeError unless verl knows our trainer, agent loop and parser by their names."""
    target = f"{MedScopeAgentLoop.__module__}.{MedScopeAgentLoop.__qualname__}"
    found = {
        f"trainer {TRAINER}": get_trainer_cls(TRAINER) is EvidenceTrainer,
        f"agent loop {LOOP}": _agent_loop_registry.get(LOOP, {}).get("_target_") == target,
        f"tool parser {PARSER}": ToolParser._registry.get(PARSER) is GrammarParser,
    }
    if missing := [name for name, there in found.items() if not there]:
        raise RuntimeError(f"verl does not know the {', '.join(missing)} of medscope.exports.verl")
