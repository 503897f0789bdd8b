"""Evidence out to a review tool and in again: what was corrected changes, nothing else does."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medscope.records import Task, Text, Timestamp, Window
from medscope.sources.annotations.activitynet import read_activitynet, write_activitynet
from medscope.sources.annotations.annotation import Annotation
from medscope.sources.annotations.label_studio import read_label_studio, write_label_studio
from medscope.sources.annotations.review import corrected, evidence_annotations
from medscope.sources.annotations.subtitles import read_webvtt, write_webvtt

FPS = {"v": 29.97, "w": 25.0}
DURATIONS = {"v": 4000.0, "w": 4000.0}

words = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), min_size=1, max_size=12)
labels = st.lists(words, min_size=1, max_size=3).map(" ".join)
spans = st.tuples(st.floats(0, 3000), st.floats(0.05, 900)).map(lambda span: (span[0], span[0] + span[1]))
stretches = st.lists(
    st.builds(
        lambda video, span, label: Annotation(video, *span, label, ""), st.sampled_from(sorted(FPS)), spans, labels
    ),
    max_size=5,
).map(lambda found: [replace(a, id=f"t{i}") for i, a in enumerate(found)])


def by_video(annotations):
    return sorted(annotations, key=lambda annotation: (annotation.video, int(annotation.id[1:])))


def same(written, read, precision):
    for old, new in zip(by_video(written), by_video(read), strict=True):
        assert (old.video, old.label, old.id) == (new.video, new.label, new.id)
        assert abs(old.start - new.start) <= precision and abs(old.end - new.end) <= precision


@given(stretches)
def test_activitynet_gives_back_what_was_written(written):
    read = list(read_activitynet(write_activitynet(written, DURATIONS), ""))
    same(written, read, 0)
    assert all(annotation.duration == 4000 for annotation in read)


@pytest.mark.slow
@given(stretches)
def test_webvtt_gives_back_milliseconds(written):
    read = [
        annotation
        for video in FPS
        for annotation in read_webvtt(write_webvtt(a for a in written if a.video == video), video)
    ]
    same(written, read, 0.0005 + 1e-9)


@given(stretches)
def test_label_studio_gives_back_frames(written):
    read = list(read_label_studio(write_label_studio(written, FPS), ""))
    assert all(annotation.frames for annotation in read)
    in_seconds = [replace(a, start=a.start / FPS[a.video], end=a.end / FPS[a.video]) for a in read]
    same(written, in_seconds, 0.5 / 25 + 1e-9)


def test_label_studio_has_its_documented_form():
    [task] = json.loads(
        write_label_studio([Annotation("v", 1.0, 2.0, "cut", "", id="q")], {"v": 25}, {"v": "/d/v.mp4"})
    )
    assert task["data"] == {"video": "/d/v.mp4"}
    [result] = task["annotations"][0]["result"]
    assert result["type"] == "timelinelabels" and result["id"] == "q"
    assert result["value"] == {"ranges": [{"start": 26, "end": 50}], "timelinelabels": ["cut"]}  # frames from 1


def test_webvtt_escapes_its_own_signs():
    text = write_webvtt([Annotation("v", 0, 3661.5, "a <b> --> c & d", "", id="x --> y")])
    assert text == "WEBVTT\n\nx -> y\n00:00:00.000 --> 01:01:01.500\na &lt;b&gt; --&gt; c &amp; d\n"


@pytest.mark.parametrize(
    "write",
    [lambda a: write_webvtt(a), lambda a: write_activitynet(a, DURATIONS), lambda a: write_label_studio(a, FPS)],
)
def test_an_open_end_is_refused(write):
    with pytest.raises(ValueError, match="'cut' has no end in seconds"):
        write([Annotation("v", 0, None, "cut", "")])


def task(name, evidence, reference=None, video="v"):
    return Task(
        name, video, f"{video}.mp4", f"Question {name}?", reference or Text("yes"), evidence, "kind", "sft", "c"
    )


TASKS = [
    task("a", Window(1.2345, 9.8765)),
    task("b", Window(20, 30), Window(20, 30), "w"),
    task("c", Timestamp(7.777)),
    task("d", Window(5, 5), video="w"),
]


def webvtt(annotations):
    return [a for v in FPS for a in read_webvtt(write_webvtt(x for x in annotations if x.video == v), v)]


TOOLS = {
    "webvtt": webvtt,
    "activitynet": lambda annotations: list(read_activitynet(write_activitynet(annotations, DURATIONS), "")),
    "label_studio": lambda annotations: list(read_label_studio(write_label_studio(annotations, FPS), "")),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_evidence_that_nobody_touched_stays_as_it_was(tool):
    assert corrected(TASKS, TOOLS[tool](evidence_annotations(TASKS)), FPS) == (TASKS, [])


@pytest.mark.parametrize("tool", TOOLS)
def test_corrections_come_in_and_deleted_stretches_go(tool):
    sent = evidence_annotations(TASKS)
    changed = [replace(sent[0], start=2.0), replace(sent[1], end=40.0), replace(sent[2], start=8.0, end=8.2)]
    tasks, removed = corrected(TASKS, TOOLS[tool](changed), FPS)
    assert removed == ["d"]
    assert tasks[0].evidence.start == pytest.approx(2, abs=0.04) and tasks[0].reference == Text("yes")
    assert tasks[1].evidence.end == pytest.approx(40, abs=0.04)
    assert tasks[1].reference == tasks[1].evidence  # an answer that is the window moves with it
    assert isinstance(tasks[2].evidence, Timestamp) and tasks[2].evidence.time == pytest.approx(8.1, abs=0.04)


def test_corrections_that_fit_no_task_are_refused():
    sent = evidence_annotations(TASKS)
    with pytest.raises(ValueError, match="the task a has 2 stretches"):
        corrected(TASKS, [*sent, sent[0]], FPS)
    with pytest.raises(ValueError, match="'new' has the id 'z', which is of no task"):
        corrected(TASKS, [Annotation("v", 0, 1, "new", "", id="z")], FPS)
    with pytest.raises(ValueError, match="goes from 3 to 2 s"):
        corrected(TASKS, [replace(sent[0], start=3, end=2)], FPS)
