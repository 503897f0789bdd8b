"""One question to one video as a self-contained HTML page: answer, time line, and every call with what it showed.

The page needs no network and holds no script. Everything in it that comes from outside (question, turns of a model,
file names) is escaped; a content security policy keeps browsers from loading anything else.
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import av

from medscope.agents.frames import data_uri, jpeg
from medscope.environment import FrameStore, ToolBudget
from medscope.environment.grammar import parse_answer, parse_window
from medscope.environment.tools import skim_seconds
from medscope.metrics import evidence_window
from medscope.records import ToolCall, Trajectory, Window
from medscope.reporting.clips import cut_clip
from medscope.session import thoughts

THUMBNAIL_PIXELS = 20_000  # at least; frames that were shown larger are shown as large here
THUMBNAIL_BYTES = 16_384
MOST_THUMBNAILS = 32  # of a call, evenly spread
CLIP_BYTES, PAGE_CLIP_BYTES = 20 << 20, 60 << 20  # of one clip (Firefox takes URIs of 32 MB), and of all on a page
WIDTH, ROW = 1000, 22  # of the time line, in units of its view box

POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --soft: #eef0f2; --look: #c8414f; --named: #2a8a5a }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #17191c; --soft: #262a2f; --look: #ef7a85; --named: #5cc792 } }
@media print { :root { --ink: #000; --paper: #fff; --soft: #f3f3f3 } section { break-inside: avoid } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 64rem; margin: 0 auto; padding: 1.5rem }
h1 { font-size: 1.4rem; overflow-wrap: anywhere } h2 { font-size: 1.1rem; margin-top: 2rem }
.answer { font-size: 1.3rem; border-left: .3rem solid var(--named); padding: .4rem 1rem; background: var(--soft) }
.warning { border-left: .3rem solid var(--look); padding: .4rem 1rem; background: var(--soft) }
.facts { font-size: .85rem; opacity: .8 } .thought { white-space: pre-wrap; overflow-wrap: anywhere; max-width: 45rem }
.frames { display: flex; flex-wrap: wrap; gap: .3rem } figure { margin: 0; font-size: .7rem; text-align: center }
.frames img { height: 6rem; display: block } video { width: min(100%, 32rem); max-height: 22rem; background: #000 }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; background: var(--soft); padding: .5rem }
svg { width: 100%; height: auto } svg text { fill: var(--ink); font: 17px system-ui, sans-serif }
.track { fill: var(--soft) } .skim { stroke: var(--ink); opacity: .45 } .look { fill: var(--look) }
.named { fill: var(--named) } .marked { fill: var(--ink); opacity: .6 }
"""


def write_ask_page(
    path: Path,
    trajectory: Trajectory,
    store: FrameStore,
    budget: ToolBudget,
    facts: Mapping[str, str],
    warning: str = "",
) -> None:
    """Write the page of a trajectory, also of one that was cut off. `facts` are shown as a line of name and value.

    Raises VideoError where a frame cannot be read.
    """
    task = trajectory.task
    duration = store.video(task.path).duration
    answer = parse_answer(trajectory.turns[-1]) if trajectory.turns else None
    skim = skim_seconds(duration, budget.skim_frames)
    parts = [
        f"<h1>{escape(task.question)}</h1>",
        f'<p class="answer">{escape(answer) if answer is not None else "There is no answer."}</p>',
        f'<p class="warning">{escape(warning)}</p>' if warning else "",
        f'<p class="facts">{" · ".join(f"{escape(name)}: {escape(value)}" for name, value in facts.items())}</p>',
        "<h2>Time line</h2>",
        time_line(duration, skim, trajectory.calls, parse_window(answer)),
        *steps(trajectory, store, budget),
        "<h2>Skim</h2>",
        thumbnails(store, task.path, skim, budget.skim_pixels),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(task.question[:80])}</title>'
        f"<style>{STYLE}</style></head>\n<body><main>\n" + "\n".join(parts) + "\n</main></body></html>\n",
        encoding="utf-8",
    )
    part.replace(path)


def time_line(
    duration: float,
    skim: Sequence[float],
    calls: Sequence[ToolCall],
    named: Window | None,
    marked: Mapping[str, Window] | None = None,
) -> str:
    """An SVG: rows for the skim, every executed call, the times that the answer names, and every window of `marked`."""
    rows = [("skim", "".join(_tick(second, duration) for second in skim))]
    for number, call in enumerate(calls, start=1):
        if call.looked is not None:
            rows.append((f"{number} {call.name}", _bar(evidence_window(call.looked), duration, "look")))
    if named is not None:
        rows.append(("answer", _bar(named, duration, "named")))
    rows += [(label, _bar(window, duration, "marked")) for label, window in (marked or {}).items()]
    body = "".join(
        f'<g transform="translate(120 {5 + i * ROW})"><rect class="track" width="{WIDTH}" height="{ROW - 6}"/>{marks}'
        f'<text x="-8" y="12" text-anchor="end">{escape(label)}</text></g>'
        for i, (label, marks) in enumerate(rows)
    )
    bottom = 5 + len(rows) * ROW
    scale = "".join(
        f'<text x="{120 + WIDTH * share:g}" y="{bottom + 12}" text-anchor="middle">{duration * share:.4g} s</text>'
        for share in (0, 0.25, 0.5, 0.75, 1)
    )
    return (
        f'<svg viewBox="0 0 {WIDTH + 150} {bottom + 20}" role="img" aria-label="time line">'
        f"<title>What was looked at, in seconds of the video</title>{body}{scale}</svg>"
    )


def _tick(second: float, duration: float) -> str:
    x = WIDTH * second / duration if duration else 0
    return f'<line class="skim" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{ROW - 6}"/>'


def _bar(window: Window, duration: float, name: str) -> str:
    start, end = min(window.start, duration), min(window.end, duration)
    x, width = (WIDTH * start / duration, WIDTH * (end - start) / duration) if duration else (0, WIDTH)
    label = f"{window.start:g} to {window.end:g} s"
    return (
        f'<rect class="{name}" x="{x:.1f}" width="{max(width, 2):.1f}" height="{ROW - 6}"><title>{label}</title></rect>'
    )


def steps(
    trajectory: Trajectory, store: FrameStore, budget: ToolBudget, clip_bytes: int = PAGE_CLIP_BYTES
) -> list[str]:
    """A section for every turn, its call's frames and clip beside the thought; then calls whose turn is not known.

    All clips together have at most `clip_bytes`; 0 leaves them out without a note.
    """
    path, duration, left = trajectory.task.path, store.video(trajectory.task.path).duration, clip_bytes
    thought = thoughts(trajectory.turns)
    sections = []
    for number in range(max(len(trajectory.turns), len(trajectory.calls))):
        call = trajectory.calls[number] if number < len(trajectory.calls) else None
        title = "Answer" if call is None else f"{number + 1} {call.name}"
        body = []
        if number < len(trajectory.turns):
            body.append(f'<p class="thought">{escape(thought[number])}</p>')
        if call is not None and call.looked is None:
            body.append(f"<p>refused: {escape(call.message)}</p>")
        elif call is not None:
            window = evidence_window(call.looked)
            pixels = budget.crop_pixels if isinstance(call.looked, Window) else budget.frame_pixels
            if clip_bytes:
                shown = Window(min(window.start, duration), min(window.end, duration))
                clip, size = clip_player(path, shown, min(CLIP_BYTES, left))
                left -= size
                body.append(clip)
            body.append(thumbnails(store, path, call.seconds, pixels))
        if number < len(trajectory.turns):
            turn = escape(trajectory.turns[number])
            body.append(f"<details><summary>what the model wrote</summary><pre>{turn}</pre></details>")
        sections.append(f"<section><h2>{escape(title)}</h2>{''.join(body)}</section>")
    return sections


def clip_player(path: str, window: Window, max_bytes: int) -> tuple[str, int]:
    """The window as a film to play and its bytes; a note where there is none, since the frames below show it too.

    A film starts at the key frame before the window; the player is told to begin at the window.
    """
    label = f"{window.start:g} to {window.end:g} s"
    try:
        clip = cut_clip(path, window, max_bytes)
    except (av.FFmpegError, ValueError) as error:
        return f'<p class="facts">{label}: no clip ({escape(type(error).__name__)}); frames only</p>', 0
    if clip is None:
        return f'<p class="facts">{label}: the clip is too large, or of a codec no browser plays; frames only</p>', 0
    begin = max(0.0, window.start - clip.start)
    return (
        f'<video controls preload="metadata" src="{data_uri(clip.content, clip.kind)}#t={begin:.2f}"></video>'
        f'<p class="facts">{label}; the film begins at {round(clip.start, 2):g} s, the key frame before</p>',
        len(clip.content),
    )


def thumbnails(store: FrameStore, path: str, seconds: Sequence[float], pixels: int) -> str:
    """Thumbnails with their seconds."""
    chosen = [seconds[i * len(seconds) // MOST_THUMBNAILS] for i in range(MOST_THUMBNAILS)]
    some = list(seconds) if len(seconds) <= MOST_THUMBNAILS else chosen
    images, times = store.frames(path, some, max(pixels, THUMBNAIL_PIXELS))
    figures = "".join(
        f'<figure><img alt="frame at {time:g} s" src="{data_uri(jpeg(image, THUMBNAIL_BYTES))}">{time:g} s</figure>'
        for image, time in zip(images, times, strict=True)
    )
    note = f'<p class="facts">{len(some)} of {len(seconds)} frames</p>' if len(some) < len(seconds) else ""
    return f'<div class="frames">{figures}</div>{note}'
