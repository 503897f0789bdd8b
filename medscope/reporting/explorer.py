"""The widget of explore.ipynb: pick a held-out video and a task, watch the policy skim, look and answer."""

import io
from contextlib import redirect_stderr

import ipywidgets as widgets
import matplotlib.pyplot as plt

from medscope.agents.policy import Policy
from medscope.environment import FrameStore, ToolBudget
from medscope.evaluation.predict import predict
from medscope.evaluation.predictions import Prediction
from medscope.reporting.pictures import filmstrip_figure
from medscope.suite.suite import Suite


def explorer(policy: Policy, suite: Suite, store: FrameStore, budget: ToolBudget) -> widgets.VBox:
    """Menus of held-out videos and their tasks, a temperature, and the trajectory as a filmstrip."""
    tasks: dict[str, dict[str, str]] = {}  # video -> question -> id of the task
    for task in suite.select("eval", challenging=True, free_text=False):
        tasks.setdefault(task.video, {})[task.question] = task.id
    video = widgets.Dropdown(options=sorted(tasks), description="video")
    question = widgets.Dropdown(options=tasks[video.value], description="question", layout={"width": "480px"})
    temperature = widgets.FloatSlider(
        value=0.0, max=1.5, step=0.1, description="temperature", style={"description_width": "initial"}
    )
    button, transcript = widgets.Button(description="answer", button_style="primary"), widgets.Output()
    strip = widgets.Image(format="png", layout={"max_width": "100%", "display": "none"})

    def offer_questions(change: dict) -> None:
        question.options = tasks[change["new"]]

    def answer(_: widgets.Button) -> None:
        task = suite.tasks_by_id[question.value]
        with transcript:  # shows errors, too
            transcript.clear_output()
            with redirect_stderr(io.StringIO()):  # no progress bar for one task
                found = predict(policy, [task], store, budget, "explorer", temperature=temperature.value)[0]
            figure, png = filmstrip_figure(found, suite.recording(task.video), store, budget), io.BytesIO()
            figure.savefig(png, dpi=110, bbox_inches="tight")
            plt.close(figure)
            strip.value, strip.layout.display = png.getvalue(), "block"
            print(transcript_of(found))

    video.observe(offer_questions, names="value")
    button.on_click(answer)
    return widgets.VBox([video, question, widgets.HBox([temperature, button]), strip, transcript])


def transcript_of(found: Prediction) -> str:
    """The turns, and below each the response to its call: the seconds that it showed, or why it was refused."""
    lines = []
    for number, turn in enumerate(found.turns):
        lines.append(turn)
        if number < len(found.calls):
            call = found.calls[number]
            shown = ", ".join(f"{second:g}" for second in call.seconds)
            lines.append(f"  -> frames at {shown} s" if call.executed else f"  -> {call.message}")
    return "\n".join(lines)
