"""Step 1 of the suite, ClinVideo-Cap: a dense caption of every interval and a summary of the whole recording."""

from medscope.records import Caption, Recording, Window
from medscope.sources.source import Language


def captions(recording: Recording, language: Language) -> list[Caption]:
    """A dense caption for every interval, in order, then the summary over the whole recording."""
    dense = [Caption(recording.video, interval.window, language.describe(interval)) for interval in recording.intervals]
    return [*dense, Caption(recording.video, Window(0, recording.duration), summary(recording))]


def summary(recording: Recording) -> str:
    """The labels of a recording in order: `incision, then suturing`."""
    return ", then ".join(interval.label for interval in recording.intervals)
