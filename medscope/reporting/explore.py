"""The widget of explore.ipynb: pick a video and a question, watch the policy skim, look and answer."""

import io
from contextlib import redirect_stderr

import ipywidgets as widgets
import matplotlib.pyplot as plt

from medscope.evaluation.benchmark import run_policy
from medscope.reporting.pictures import filmstrip_figure
from medscope.agents.policy import Policy
from medscope.suite.build import Suite
from medscope.suite.tasks import CHALLENGING
from medscope.environment.tools import ToolBudget
from medscope.environment.video import FrameStore


def explorer(policy: Policy, suite: Suite, store: FrameStore, budget: ToolBudget) -> widgets.VBox:
    """Menus of held-out videos and their questions, a temperature, and the trajectory as a filmstrip."""
    asked: dict[str, dict[str, str]] = {}
    for question in suite.question_list:
        if question.split == "eval" and question.kind in CHALLENGING:
            asked.setdefault(question.video, {})[question.text] = question.id
    video = widgets.Dropdown(options=sorted(asked), description="video")
    question = widgets.Dropdown(options=asked[video.value], description="question", layout={"width": "480px"})
    temperature = widgets.FloatSlider(
        value=0.0, max=1.5, step=0.1, description="temperature", style={"description_width": "initial"}
    )
    button, words = widgets.Button(description="answer", button_style="primary"), widgets.Output()
    strip = widgets.Image(format="png", layout={"max_width": "100%", "display": "none"})

    def offer_questions(change: dict) -> None:
        question.options = asked[change["new"]]

    def answer(_: widgets.Button) -> None:
        chosen = suite.questions[question.value]
        with words:  # errors, too
            words.clear_output()
            recordings = suite.recordings_by_video
            with redirect_stderr(io.StringIO()):  # no progress bar for one question
                found = run_policy(policy, [chosen], recordings, store, budget, temperature=temperature.value)[0]
            figure, drawn = filmstrip_figure(found, recordings[chosen.video], store, budget), io.BytesIO()
            figure.savefig(drawn, dpi=110, bbox_inches="tight")
            plt.close(figure)
            strip.value, strip.layout.display = drawn.getvalue(), "block"
            for turn, call in zip(found.turns, [*found.calls, None], strict=False):
                print(turn + (f"\n  -> {'shown' if call.executed else call.message}" if call else ""))

    video.observe(offer_questions, names="value")
    button.on_click(answer)
    return widgets.VBox([video, question, widgets.HBox([temperature, button]), strip, words])
