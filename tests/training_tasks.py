"""Tasks, examples, forced rollouts and a judge for the tests of training: nothing in them is left to chance."""

from transformers import TrainerCallback

from medscope.agents.encoding import encode_prompt, encode_turn
from medscope.agents.rollout import generate
from medscope.environment import ClinicalVideoEnvironment, FrameStore
from medscope.environment.environment import show_frames
from medscope.environment.grammar import call_text
from medscope.environment.prompts import opening
from medscope.records import Task, Text, Window
from medscope.training.examples import Example
from medscope.training.ga_grpo import GAGRPOTrainer


def window_tasks(path, count, end=35.0):
    """`count` tasks on one video, with the evidence [0, end] s."""
    return [
        Task(
            id=f"video:{number}",
            video="video",
            path=str(path),
            question=f"When does step {number} take place?",
            reference=Text("incision"),
            evidence=Window(0, end),
            kind="grounding",
            split="rl",
            collection="recordings",
        )
        for number in range(count)
    ]


def framed_examples(policy, path, count):
    """`count` examples for SFT, of one to three frames of a video and answers of different length."""
    store, examples = FrameStore(), []
    for number in range(count):
        messages = opening("What follows?", show_frames(store, path, [0.0, 8.0, 16.0][: 1 + number % 3], 784), False)
        answer = encode_turn(policy, f"from {number} s" + " to 10 s" * (number % 4))
        examples.append(Example((encode_prompt(policy, messages, False), answer)))
    return examples


def forced_crop(task, member):
    """A turn whose length depends on the task and on the member of the group, its window on the member."""
    thought = "t " * (1 + 7 * (int(task.id.split(":")[1]) % 3) + 3 * member)
    return f"<think>{thought}</think>" + call_text("crop_video", {"start_time": 0.0, "end_time": 5.0 + 30 * member})


def judge_in_turn(graded):
    """0, .5, 1, 0, .. whatever the answers are, so that the members of a group earn different rewards."""
    return [0.5 * (i % 3) for i in range(len(graded))]


class KeepGradient(TrainerCallback):
    """The gradient of the last update, once it is complete."""

    def on_pre_optimizer_step(self, args, state, control, model, **_):
        self.gradient = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


class ForcedTrainer(GAGRPOTrainer):
    """Its rollouts do not depend on chance: every member of a group is made to crop another window."""

    def __init__(self, *positional, **named):
        super().__init__(*positional, **named)
        self.add_callback(KeepGradient())

    def sample(self, tasks):
        count = len(tasks) * self.num_generations
        environments = [ClinicalVideoEnvironment(self.store, self.budget) for _ in range(count)]
        forced = [[forced_crop(tasks[i // self.num_generations], i % self.num_generations)] for i in range(count)]
        rollouts = generate(
            self.policy, tasks, environments, self.num_generations, max_turn_tokens=6, forced_turns=forced
        )
        for rollout in rollouts:  # of forced tokens there is no log-probability
            rollout.logps = [0.0] * sum(rollout.assistant_mask)
        return rollouts
