"""One's own recordings as parameters of notebook 01, and their de-identified copies as its source."""

import numpy as np
import pytest
from media import grey_frames, write_mp4

from medscope.deidentify.source import deidentified
from medscope.environment import FrameStore
from medscope.files import read_jsonl
from medscope.pipeline.own_suite import chosen, parameters_of, parser
from medscope.pipeline.parameters import StageError
from medscope.sources.manifest import QuarantineError, VideoFile


@pytest.fixture
def folder(tmp_path):
    """Two films of one patient and one of another, with a stretch outside of the body in the first."""
    for number, name in enumerate(("smith/a", "smith/b", "jones/c")):
        path = tmp_path / "films" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mp4(path, np.arange(12), np.roll(grey_frames(12) + 40, number, axis=0))
    rows = ["video,start,end,label", "a,0,4,incision", "a,2,4,out_of_body", "b,0,4,incision", "c,1,9,closing"]
    (tmp_path / "phases.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def source_of(folder, masks=None, **changes):
    settings = {"folder": str(folder / "films"), "group_from": "parent", **changes}
    return deidentified(
        "segments" if "format" in settings else "folder",
        folder / "copies",
        names=folder / "private" / "names.csv",
        settings=settings,
        **(masks or {}),
    )


def test_recordings_are_copies_without_names(folder):
    annotated = {"annotations": str(folder / "phases.csv"), "format": "csv"}
    found = list(source_of(folder, **annotated).recordings())
    assert [[i.label for i in r.intervals] for r in found] == [["closing"], ["incision", "out_of_body"], ["incision"]]
    assert found[1].group == found[2].group != found[0].group
    for recording in found:
        assert recording.path == str(folder / "copies" / f"{recording.video}.mp4") and recording.duration == 12
        assert not {"smith", "jones", "a", "b", "c"} & {recording.video, recording.group}
    assert source_of(folder, **annotated).quarantine.read_text() == ""
    originals = read_jsonl(folder / "private" / "names_private" / "manifest.jsonl", VideoFile)
    assert [video.video for video in originals] == ["jones/c", "smith/a", "smith/b"]
    assert list(source_of(folder, **annotated).recordings()) == found, "names stay from run to run"
    before = FrameStore().frames(found[1].path, [3.0], 784)[0][0]
    masked = list(source_of(folder, {"mask_labels": ["out_of_body"]}, **annotated, max_quarantined=0.5).recordings())
    after = FrameStore().frames(masked[1].path, [3.0], 784)[0][0]
    assert np.asarray(before).mean() > 40 and np.asarray(after).mean() < 8


def test_what_cannot_be_masked_is_not_copied(folder):
    with pytest.raises(ValueError, match="mask_labels needs annotations"):
        list(source_of(folder, {"mask_labels": ["out_of_body"]}).recordings())
    masks = folder / "masks.yaml"
    masks.write_text("tower: {videos: ['*'], rectangles: [[0, 0, 4000, 10]]}\n")
    with pytest.raises(QuarantineError, match="3 of 3 videos to copy"):
        list(source_of(folder, {"masks": masks}).recordings())


def test_words_become_parameters(tmp_path):
    options = parser().parse_intermixed_args(
        [
            str(tmp_path),
            "--annotations",
            "it's, a file.csv",
            "--teacher",
            "endpoint",
            "seed=3",
            "--group-from",
            "parent",
        ]
    )
    parameters = parameters_of(options)
    assert parameters["settings"]["folder"] == str(tmp_path) and parameters["settings"]["group_from"] == "parent"
    assert parameters["settings"]["annotations"].endswith("/it's, a file.csv") and parameters["seed"] == 3
    assert (parameters["source"], parameters["teacher"], parameters["deidentify"]) == ("segments", "endpoint", True)
    assert chosen(parser().parse_args([str(tmp_path)]))["teacher"] == "endpoint"
    with pytest.raises(StageError, match="needs annotations"):
        chosen(parser().parse_args([str(tmp_path), "--teacher", "scripted"]))
    with pytest.raises(StageError, match="teacher is 'human'; choose one of scripted, endpoint"):
        parameters_of(parser().parse_args([str(tmp_path), "--teacher", "human"]))
