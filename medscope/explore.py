"""The widget of explore.ipynb: pick a video and a question, watch the policy skim, look and answer."""

import ipywidgets as widgets

from medscope.benchmark import run_policy
from medscope.pictures import filmstrip
from medscope.policy import Policy
from medscope.suite.build import Suite
from medscope.suite.questions import CHALLENGING
from medscope.tools import Limits
from medscope.video import FrameStore


def explorer(policy: Policy, suite: Suite, store: FrameStore, limits: Limits) -> widgets.VBox:
    """Menus of held-out videos and their questions, a temperature, and the trajectory as a filmstrip."""
    asked: dict[str, dict[str, str]] = {}
    for question in suite.question_list:
        if question.split == "eval" and question.kind in CHALLENGING:
            asked.setdefault(question.video, {})[question.text] = question.id
    video = widgets.Dropdown(options=sorted(asked), description="video")
    question = widgets.Dropdown(options=asked[video.value], description="question", layout={"width": "480px"})
    temperature = widgets.FloatSlider(value=0.0, max=1.5, step=0.1, description="temperature")
    button, strip = widgets.Button(description="answer", button_style="primary"), widgets.Output()

    def offer_questions(change: dict) -> None:
        question.options = asked[change["new"]]

    def answer(_: widgets.Button) -> None:
        chosen = suite.questions[question.value]
        with strip:
            strip.clear_output(wait=True)
            recordings = suite.recordings_by_video
            found = run_policy(policy, [chosen], recordings, store, limits, temperature=temperature.value)[0]
            filmstrip(found, recordings[chosen.video], store, limits)
            for turn, call in zip(found.turns, [*found.calls, None], strict=False):
                print(turn + (f"\n  -> {'shown' if call.executed else call.message}" if call else ""))

    video.observe(offer_questions, names="value")
    button.on_click(answer)
    return widgets.VBox([video, question, widgets.HBox([temperature, button]), strip])
