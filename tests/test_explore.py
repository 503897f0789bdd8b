"""The widget of explore.ipynb without a browser: a click shows the trajectory."""

from dataclasses import replace

import numpy as np

from medscope.reporting.explore import explorer
from medscope.suite.build import Suite
from medscope.suite.tasks import questions


def test_a_click_on_answer_shows_the_trajectory_and_another_video_offers_its_questions(
    policy, operation, clip, store, tiny_budget
):
    recordings = [replace(operation, split="eval"), replace(clip, split="eval")]
    asked = [replace(q, split="eval") for r in recordings for q in questions(r, np.random.default_rng(0))]
    suite = Suite(recordings, captions=[], question_list=asked, lessons=[], trajectories=[])
    budget = replace(tiny_budget, max_turn_tokens=8)
    video, question, (_, button), strip, _ = (
        box.children if hasattr(box, "children") else box for box in explorer(policy, suite, store, budget).children
    )
    assert strip.layout.display == "none"
    button.click()
    assert bytes(strip.value[:4]) == b"\x89PNG" and strip.layout.display == "block"
    video.value = clip.video
    offered = dict(question.options).values()
    assert set(offered) <= {q.id for q in asked if q.video == clip.video} and len(offered) > 0
    first = bytes(strip.value)
    button.click()
    assert bytes(strip.value) != first
