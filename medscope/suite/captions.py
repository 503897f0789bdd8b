"""Stage 1, ClinVideo-Cap: timestamped dense captions of every segment and a storyline of the whole recording."""

from medscope.records import Caption, Recording, Segment, Window


def describe(segment: Segment) -> str:
    """What a dense look at a segment shows: `staining with cannula and bubbles`."""
    details = [segment.instrument, *([segment.complication] if segment.complication else [])]
    return f"{segment.phase} with {' and '.join(details)}"


def captions(recording: Recording) -> list[Caption]:
    """A dense caption for every segment, in order, then the global summary over the whole recording."""
    dense = [Caption(recording.video, segment.window, describe(segment)) for segment in recording.segments]
    summary = ", then ".join(segment.phase for segment in recording.segments)
    return [*dense, Caption(recording.video, Window(0, recording.duration), summary)]


def storyline(recording: Recording, seconds: list[int], end: float) -> list[tuple[str, int]]:
    """What a skim at `seconds` tells: (phase, first second at which it is seen) in order, then ("end", end).

    Clips tell their events; a skim that misses a segment does not tell it.
    """
    told: list[tuple[str, int]] = []
    for second in seconds:
        for segment in recording.segments:
            seen = segment.window.start <= second < segment.window.end
            if seen and all(phase != segment.phase for phase, _ in told):
                told.append((segment.phase, second))
    return [*told, ("end", round(end))]
