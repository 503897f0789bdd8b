"""A scripted teacher for real films: it knows their frames, and says only what the frames that it is sent show.

Every tenth of a film has a word of its own. A frame must be that of the second that it is told, by its picture: a word
is seen where such a frame is seen.
"""

import json
import re
from itertools import pairwise

import av
import numpy as np
from chat_server import call, frames_of, text
from PIL import Image
from teacher_server import asked, data_of, prompt_of, question

PARTS = 10  # of a film
SYLLABLES = ("ba", "de", "fi", "go", "lu", "mo", "ne")
WORDS = [first + second + "n" for first in SYLLABLES for second in SYLLABLES]
MARGIN = 0.03  # s of evidence beside a part, since seconds are rounded
LIKE, FAR = 1.0, 8.0  # grey levels that scaling and JPEG may change, on average: between frames, and in all


def small(picture):
    return np.asarray(Image.fromarray(picture).convert("L").resize((12, 8), Image.Resampling.BOX), np.float32)


class KnownFilm:
    """Times (s from the first frame) and small pictures of all frames."""

    def __init__(self, path, duration, number):
        self.duration, self.number = duration, number
        with av.open(str(path)) as container:
            frames = [
                (float(f.pts * f.time_base), small(f.to_ndarray(format="rgb24"))) for f in container.decode(video=0)
            ]
        self.times = np.array([time - frames[0][0] for time, _ in frames])
        self.pictures = np.stack([picture for _, picture in frames])

    def word(self, second):
        return WORDS[PARTS * self.number + min(PARTS - 1, int(second / self.duration * PARTS + 1e-6))]

    def window(self, first, last):
        """Evidence of the parts from `first` to `last`."""
        edges = (first * self.duration / PARTS - MARGIN, (last + 1) * self.duration / PARTS + MARGIN)
        return [round(min(max(edge, 0.0), self.duration), 2) for edge in edges]

    def index(self, second):
        return int(np.abs(self.times - second).argmin())


class RealTeacher:
    """`teacher(request)` is the reply to any request of the pipeline; `checked` counts the frames that were right."""

    def __init__(self, films):
        self.films, self.checked = films, 0

    def __call__(self, request):
        prompt = prompt_of(request)
        if prompt == "grade":
            return {"score": 0.9 * (data_of(request)["reference"] in data_of(request)["answer"])}
        if prompt == "summary":
            return {"text": f"{len(data_of(request)['captions'])} parts."}
        if prompt == "questions":
            return {"questions": self.questions(data_of(request))}
        seen = self.seen(request)
        if prompt == "caption":
            return self.caption(data_of(request), seen)
        if prompt == "answer":
            return {"seen": "words", "answer": self.answer(data_of(request)["question"], seen)}
        if prompt == "direct":
            return f"I see it.\n<answer>{self.answer(asked(request)['question'], seen)}</answer>"
        return self.act(request, seen)

    def seen(self, request):
        """Word -> the first second at which a frame shows it; all frames are of one film, and of their seconds."""
        shown = [(second, small(picture)) for second, picture in frames_of(request)]
        if not shown:
            return {}
        right = [film for film in self.films if all(self.is_frame(film, *frame) for frame in shown)]
        assert right, f"the frames are not those of their seconds: {[second for second, _ in shown]}"
        self.checked += len(shown)
        film = min(right, key=lambda film: sum(self.apart(film, *frame) for frame in shown))
        found = {}
        for second, _ in shown:
            time = film.times[film.index(second)]
            found[film.word(time)] = min(time, found.get(film.word(time), time))
        return found

    @staticmethod
    def apart(film, second, picture):
        return float(np.abs(film.pictures[film.index(second)] - picture).mean())

    def is_frame(self, film, second, picture):
        """Whether no other frame of the film fits better than that of the second, but for like ones."""
        best = float(np.abs(film.pictures - picture).mean(axis=(1, 2)).min())
        return best < FAR and self.apart(film, second, picture) < best + LIKE

    def caption(self, data, seen):
        moments = [
            {"second": round(float(second), 3), "text": f"{word} is shown"}
            for word, second in sorted(seen.items(), key=lambda item: item[1])
            if data["start"] <= second <= data["end"]
        ]
        return {"moments": moments[:8]}

    def place(self, word):
        """The film of a word, and the part of it."""
        number = WORDS.index(word)
        return self.films[number // PARTS], number % PARTS

    def questions(self, data):
        """Good and bad questions by turns."""
        told = re.findall(r"(\w+) is shown", " ".join(caption["text"] for caption in data["captions"]))
        told = list(dict.fromkeys(told))
        begin, end = data["captions"][0]["start"], data["captions"][-1]["end"]
        made = []
        for word, follower in pairwise(told):
            film, part = self.place(word)
            if self.place(follower)[1] != part + 1:
                continue
            others = [WORDS[-1 - i] for i in range(3)]
            here, both = film.window(part, part), film.window(part, part + 1)
            made += [
                question("perception", "choice", f"Which word comes after {word}?", follower, *both, others),
                question("grounding", "time", f"When does {word} come on?", f"{word} comes on", *here),
                question("temporal", "text", f"In words, which one comes after {word}?", f"it is {follower}", *both),
            ]
        if not made:
            return []
        word = told[0]
        bad = [
            question("reasoning", "text", f"Is the word {word} on?", "yes", begin, end),
            question("perception", "text", "What colour has snow?", "white", begin, end),
            question("reasoning", "text", f"Why at {begin:g} s does it fade?", "it is lit", begin, end),
            question("perception", "text", f"What comes with {word} on the way?", word, begin, end),
            made[0],
        ]
        return [*made[: data["count"] - 2], *bad[len(told) % 4 : len(told) % 4 + 2]]

    def answer(self, words, seen):
        """What the frames answer; None where they do not show it."""
        if "snow" in words:
            return "white"
        found = re.search(r"(?:after|does) (\w+)", words)
        if not found or found[1] not in WORDS:
            return None
        film, part = self.place(found[1])
        if "come on" in words:
            start, end = film.window(part, part)
            return f"from {start:g} to {end:g} s" if found[1] in seen else None
        follower = WORDS[WORDS.index(found[1]) + 1]
        return (f"it is {follower}" if words.startswith("In words") else follower) if follower in seen else None

    def act(self, request, seen):
        """Coarse to fine: a wide crop, sometimes a call that is refused, the window of the evidence, the answer."""
        words, turns = asked(request)["question"], sum(m["role"] == "assistant" for m in request["messages"])
        film, part = self.place(re.search(r"(?:after|does) (\w+)", words)[1])
        refused = "come on" in words
        if turns == 0:
            start, end = film.window(max(0, part - 2), min(PARTS - 1, part + 3))
            return call("crop_video", {"start_time": start, "end_time": end}, "It must be near here.")
        if turns == 1 and refused:
            return call("crop_video", {"start_time": 5, "end_time": 4}, "Now closer.")
        if turns == 1 + refused:
            start, end = film.window(part, part + (not refused))
            return call("crop_video", {"start_time": start, "end_time": end}, "This is the window.")
        return text(f"It is seen.\n<answer>{self.answer(words, seen)}</answer>")


def write_annotations(path, durations, subsets):
    """ActivityNet JSON with a published subset and one interval a video."""
    videos = {
        video: {
            "duration": duration,
            "subset": subsets[video],
            "annotations": [{"label": "view", "segment": [0, duration]}],
        }
        for video, duration in durations.items()
    }
    path.write_text(json.dumps({"database": videos}))
