"""How many tokens a dialogue may have, how many it can have within a budget, and prompts that are too long."""

from collections.abc import Sequence

from medscope.agents.encoding import TokenSpan, encode_prompt
from medscope.agents.policy import Policy
from medscope.environment import ClinicalVideoEnvironment, FrameStore, ToolBudget
from medscope.environment.environment import skim
from medscope.environment.prompts import opening
from medscope.environment.video import PATCH_FACTOR
from medscope.ranks import is_first_process
from medscope.records import Task

PROMPT_WORDS = 2048  # tokens of instructions and question: plenty
FRAME_WORDS = 16  # tokens of the second beside a frame: plenty
RESPONSE_WORDS = 64  # tokens around a response


def context_limit(policy: Policy, budget: ToolBudget) -> int:
    """The most tokens of a dialogue: the budget's `context_tokens`, or the model's positions where they are fewer."""
    return min(budget.context_tokens, policy.base.config.text_config.max_position_embeddings)


def longest_completion(budget: ToolBudget) -> int:
    """No completion within `budget` has more tokens: its turns and the responses to its calls, refused ones too."""
    response = max(_shown(budget.crop_frames, budget.crop_pixels), _shown(3, budget.frame_pixels)) + RESPONSE_WORDS
    return (budget.max_calls + 2) * budget.max_turn_tokens + (budget.max_calls + 1) * response


def longest_dialogue(budget: ToolBudget) -> int:
    """No dialogue within `budget` has more tokens, prompt and completion."""
    return PROMPT_WORDS + _shown(budget.skim_frames, budget.skim_pixels) + longest_completion(budget)


def fitting_tasks(policy: Policy, tasks: Sequence[Task], store: FrameStore, budget: ToolBudget) -> Sequence[Task]:
    """The tasks whose prompt leaves room for a turn in the context; how many do not is printed. No video is opened
    where none can be too long. Raises ValueError where no task is left."""
    room = context_limit(policy, budget) - budget.max_turn_tokens
    skimmed = PROMPT_WORDS + _shown(budget.skim_frames, budget.skim_pixels)
    environment = ClinicalVideoEnvironment(store, budget)

    def fits(task: Task) -> bool:
        if skimmed + len(task.question.encode()) <= room:  # a byte is a token at most
            return True
        environment.reset(path=task.path)
        return len(encode_prompt(policy, opening(task.question, skim(environment)), True).ids) <= room

    kept = [task for task in tasks if fits(task)]
    if len(kept) < len(tasks) and is_first_process():
        print(f"{len(tasks) - len(kept)} of {len(tasks)} tasks left out: prompts of more than {room} tokens")
    if not kept:
        raise ValueError(f"no prompt of {len(tasks)} tasks fits {room} tokens; lower skim_frames or skim_pixels")
    return kept


def _shown(frames: int, pixels: int) -> int:
    return frames * (pixels // PATCH_FACTOR**2 + FRAME_WORDS)


def check_prompt(policy: Policy, budget: ToolBudget, task: Task, prompt: TokenSpan, max_turn_tokens: int) -> None:
    """Raise ValueError for a prompt that leaves no room for one turn in the context."""
    limit = context_limit(policy, budget)
    if len(prompt.ids) + max_turn_tokens > limit:
        raise ValueError(
            f"task {task.id}, video {task.video}: the prompt has {len(prompt.ids)} tokens and a turn up to "
            f"{max_turn_tokens}, more than the context of {limit} tokens (the smaller of the budget's context_tokens "
            "and the model's positions); lower skim_frames, skim_pixels or max_turn_tokens"
        )
