"""The exact judge of answers: right, half right, wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medscope.dialogue import window_text
from medscope.judge import exact_judge, normalise
from medscope.metrics import temporal_iou
from medscope.records import Window


@pytest.mark.parametrize(
    "answer, reference, verdict",
    [
        ("forceps", "forceps", 1),
        ("The forceps.", "forceps", 1),
        ("  FORCEPS ", "forceps", 1),
        ("blade", "forceps", 0),
        ("forceps and blade", "forceps", 0),
        ("", "forceps", 0),
        (None, "forceps", 0),
        ("from 0 to 100 s", "from 0 to 100 s", 1),
        ("from 100 to 0 s", "from 0 to 100 s", 1),
        ("0-50", "from 0 to 100 s", 1),
        ("0-49", "from 0 to 100 s", 0.5),
        ("0-30", "from 0 to 100 s", 0.5),
        ("0-29", "from 0 to 100 s", 0),
        ("1.1 to 1.4", "from 1.1 to 2.1 s", 0.5),  # IoU .3 but for a float's last digit
        ("from 0 s", "from 0 to 100 s", 0),
        ("from 0 to 100 s or 110 s", "from 0 to 100 s", 0),
        ("the whole video", "from 0 to 100 s", 0),
        (None, "from 0 to 100 s", 0),
    ],
)
def test_exact_judge(answer, reference, verdict):
    assert exact_judge(answer, reference) == verdict


WINDOWS = st.tuples(st.integers(0, 150), st.integers(0, 150)).map(sorted).map(lambda ends: Window(*ends))


@given(WINDOWS, WINDOWS)
def test_the_verdict_on_a_window_follows_its_iou(named, expected):
    iou = temporal_iou(named, expected)
    verdict = exact_judge(window_text(named), window_text(expected))
    assert verdict == (1 if iou >= 0.5 else 0.5 if iou >= 0.3 else 0)


def test_normalise():
    assert normalise(" The  Blade, an edge; A-b! ") == "blade edge ab"
