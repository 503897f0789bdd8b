"""One contact sheet per device: frames of its copies, for a person to look at before anything is given away."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from medscope.environment import VideoError, open_video

WARNING = (
    "Text that is burnt into the picture cannot be promised away.",
    "Look at every picture for names, dates, faces and numbers before you give a copy away.",
)
MOST_VIDEOS = 24  # of a sheet, evenly spread over those of the device
FRAMES = 4  # of a video, evenly spread
WIDTH, GAP, LINE = 320, 8, 16  # pixels


def write_sheet(path: Path, device: str, copies: Sequence[Path]) -> None:
    """A PNG of the copies of one device: a row a video, named by its new name, `FRAMES` pictures with their seconds."""
    shown = [copies[i * len(copies) // MOST_VIDEOS] for i in range(MOST_VIDEOS)] if _too_many(copies) else list(copies)
    rows = [(copy, _pictures(copy)) for copy in shown]
    head = (f"{device}: {len(shown)} of {len(copies)} videos", *WARNING)
    heights = [max((picture.height for _, picture in row), default=0) + LINE + GAP for _, row in rows]
    sheet = Image.new("RGB", (FRAMES * (WIDTH + GAP) + GAP, len(head) * LINE + 2 * GAP + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(head):
        draw.text((GAP, GAP + number * LINE), line, fill="black" if number == 0 else "#b00000")
    top = len(head) * LINE + 2 * GAP
    for (copy, row), height in zip(rows, heights, strict=True):
        for column, (second, picture) in enumerate(row):
            left = GAP + column * (WIDTH + GAP)
            draw.text((left, top), f"{copy.stem}  {second:.1f} s", fill="black")
            sheet.paste(picture, (left, top + LINE))
        top += height
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    sheet.save(part, format="PNG")
    part.replace(path)


def _too_many(copies: Sequence[Path]) -> bool:
    return len(copies) > MOST_VIDEOS


def _pictures(copy: Path) -> list[tuple[float, Image.Image]]:
    video = open_video(copy, decoder="pyav")
    last = len(video.starts) - 1
    indices = sorted({round(last * (2 * i + 1) / (2 * FRAMES)) for i in range(FRAMES)})
    pictures = []
    for index in indices:
        try:
            [frame] = video.read([index])
        except VideoError as error:
            raise VideoError(f"{copy}: the copy does not decode ({error}); delete it and run again") from error
        picture = Image.fromarray(frame)
        height = max(1, round(picture.height * WIDTH / picture.width))
        pictures.append((float(video.starts[index]), picture.resize((WIDTH, height))))
    return pictures
