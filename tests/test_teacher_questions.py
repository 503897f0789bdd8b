"""Questions with evidence, the checks of their text, and the verification of their windows."""

import json
from dataclasses import replace

import pytest
from teacher_items import LOOK, do, draft_of, model_of, question
from teacher_server import TIMES, data_of, prompt_of, seen_shades

from medscope.records import Caption, Text, Timestamp, Window
from medscope.suite.bulk import Rejected
from medscope.suite.teachers.endpoint.checks import Checked, CheckStep, drop_duplicates, text_faults
from medscope.suite.teachers.endpoint.questions import (
    Neighbourhood,
    QuestionStep,
    drafts,
    neighbourhoods,
)
from medscope.suite.teachers.endpoint.verification import VerificationStep

pytest_plugins = ["teacher_fixtures"]


def test_questions_of_neighbouring_captions(serve, film):
    captions = [Caption("film", Window(i * 3, i * 3 + 3), "a shade") for i in range(4)]
    first, second = neighbourhoods(film, captions, "all")
    assert first.captions == tuple(captions[:3]) and second.captions == tuple(captions[2:])
    assert len(neighbourhoods(film, captions[:1], "all")) == 1 and neighbourhoods(film, [], "all") == []
    server = serve({"questions": [question(), question(kind="grounding", form="time", wrong=[], start=4, end=4)]})
    choice, when = drafts(first, do(QuestionStep(model_of(server)), first))
    assert choice.task.reference == Text("hook") and choice.task.evidence == Window(2.5, 5.2)
    assert set(choice.task.question.splitlines()[1:]) == {"- hook", "- clip", "- saw", "- drill"}
    assert when.task.reference == when.task.evidence == Timestamp(4)
    assert (choice.task.id, when.task.id) == ("film/perception/0.0", "film/grounding/0.1")
    assert data_of(server.requests[0])["captions"][1] == {"start": 3.0, "end": 6.0, "text": "a shade"}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"start": 20, "end": 30}, "within the captions"),
        ({"start": 5, "end": 3}, "start <= end"),
        ({"form": "time"}, "kind grounding"),
        ({"wrong": ["clip"]}, "3 entries"),
        ({"wrong": ["clip", "The hook.", "saw"]}, "different words"),
        ({"kind": "riddle"}, "Input should be"),
        ({"answer": " "}, "is empty"),
    ],
)
def test_a_question_that_is_none_is_asked_for_again(serve, film, changes, why):
    server = serve({"questions": [question(**changes)]})
    neighbourhood = Neighbourhood(film, (Caption("film", Window(0, 12), "a"),), "all", 0)
    assert isinstance(do(QuestionStep(model_of(server)), neighbourhood), Rejected)
    assert why in server.requests[1]["messages"][-1]["content"]


def test_more_questions_than_asked_for_are_refused(serve, film):
    server = serve({"questions": [question()] * 3})
    neighbourhood = Neighbourhood(film, (Caption("film", Window(0, 12), "a"),), "all", 0)
    assert "more than 2" in do(QuestionStep(model_of(server), count=2), neighbourhood).reason


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({}, []),
        ({"question": "Where does the hook go?"}, ["leaks its answer"]),
        ({"question": "Where do the hooks go?"}, []),
        ({"question": "Which tool is used at 12 s?"}, ["leaks its time"]),
        ({"question": "Which tool is used at 1:20?"}, ["leaks its time"]),
        ({"question": "Which 10-0 suture is used?"}, []),
        ({"question": "Which tool does the caption name?"}, ["speaks of its captions"]),
        ({"question": "Is it a hook?", "form": "text", "wrong": [], "answer": "it is"}, ["yes or no"]),
        ({"answer": "Yes.", "wrong": ["No", "Both", "None"]}, ["yes or no"]),
        ({"start": 0, "end": 11}, ["window too long"]),
        ({"kind": "grounding", "form": "time", "wrong": [], "question": "When is the hook used?"}, []),
    ],
)
def test_text_faults(film, changes, reasons):
    assert text_faults(draft_of(film, **changes)) == reasons


def test_duplicates_by_pairs_of_words(film):
    same = "Which tool is used in the end?", "Which tool is used at the end?"
    other = "Which tool is cleaned in the beginning?"
    made = [draft_of(film, question=words) for words in (same[0], other, same[1])]
    kept, dropped = drop_duplicates(made)
    assert kept == made[:2] and dropped[0][1].reason == "duplicate: it repeats film/perception/0.0"
    elsewhere = replace(made[2], task=replace(made[2].task, video="another"))
    later = replace(made[2], task=replace(made[2].task, evidence=Window(8, 9)))
    assert drop_duplicates([made[0], elsewhere, later])[1] == []
    again = replace(made[0], task=replace(made[0].task, evidence=Window(8, 9)))
    assert drop_duplicates([made[0], again])[0] == made[:1]


def test_a_question_answered_without_frames_is_rejected(serve, film):
    said = ["hook", None, "Hook.", "clip", None, "hook"]
    server = serve(lambda request: {"seen": "", "answer": said.pop(0)})
    step, draft = CheckStep(model_of(server), asks=3), draft_of(film)
    assert do(step, draft).reason == "answerable without the video: 2 of 3 answers without frames are right"
    assert do(step, draft) == Checked(1)
    assert all("image_url" not in json.dumps(r["messages"]) and r["temperature"] == 1 for r in server.requests)
    assert set(data_of(server.requests[0])["options"]) == {"hook", "clip", "saw", "drill"}
    assert do(step, draft_of(film, question="Is it?", start=0, end=11)) == Rejected("window too long")


def view_of(request):
    """What the verifier was shown, by the seconds of its frames: a question with evidence from 2.5 to 5.2 s."""
    seconds = [second for second, _ in seen_shades(request)]
    inside = [2.5 <= second <= 5.2 for second in seconds]
    if not seconds:
        return "nothing"
    return "window" if all(inside) else "rest" if not any(inside) else "skim"


@pytest.mark.parametrize(
    ("right", "outcome"),
    [
        ({"window"}, True),
        ({"window", "skim"}, False),
        (set(), "not answered from its window"),
        ({"window", "rest"}, "answered from the rest of the video"),
        ({"window", "nothing"}, "answered from nothing"),
    ],
)
def test_kept_if_only_the_window_answers(serve, store, film, right, outcome):
    server = serve(lambda request: {"seen": "", "answer": "hook" if view_of(request) in right else None})
    step, draft = VerificationStep(model_of(server), store, LOOK), draft_of(film)
    result = do(step, draft)
    if isinstance(outcome, str):
        assert result.reason.partition(":")[0] == outcome
        return
    assert result.task(draft) == replace(draft.task, challenging=outcome)
    assert [view_of(request) for request in server.requests] == ["window", "rest", "nothing", "skim"]
    shown = {second for second, _ in seen_shades(server.requests[1])}
    assert shown == {second for second in TIMES if not 2.5 <= second <= 5.2}


@pytest.mark.parametrize(("score", "kept"), [(0.84, False), (0.85, True)])
def test_free_text_is_right_from_a_score_of_85_hundredths(serve, store, film, score, kept):
    def script(request):
        if prompt_of(request) == "grade":
            assert data_of(request)["reference"] == "hook"
            return {"score": score}
        return {"seen": "", "answer": "the hooked one" if view_of(request) == "window" else None}

    draft = draft_of(film, form="text", wrong=[])
    result = do(VerificationStep(model_of(serve(script)), store, LOOK), draft)
    assert isinstance(result, Rejected) != kept


@pytest.mark.parametrize("score", [1.5, -1, "NaN", None])
def test_a_score_that_is_none_is_rejected(serve, store, film, score):
    body = '{"score": NaN}' if score == "NaN" else {"score": score}
    server = serve(lambda request: body if prompt_of(request) == "grade" else {"seen": "", "answer": "it"})
    result = do(VerificationStep(model_of(server), store, LOOK), draft_of(film, form="text", wrong=[]))
    assert result.reason.startswith("the grade reply cannot be used: ")


def test_a_window_of_most_of_the_video_is_rejected_unseen(serve, store, film):
    server = serve()
    draft = draft_of(film, start=1, end=11)
    assert do(VerificationStep(model_of(server), store, LOOK), draft) == Rejected("window too long")
    assert not server.requests
