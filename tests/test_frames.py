"""Frames as JPEG: bounded, the same each time, and without what the image carries beside its picture."""

import io

import numpy as np
import pytest
from PIL import Image

from medscope.agents.frames import FrameEncoder, jpeg


def noise(size=(280, 196)):
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


def test_bytes_are_bounded_and_repeat():
    sizes = []
    for most in (100_000, 20_000, 3_000, 1_000):
        content = jpeg(noise(), most)
        assert len(content) <= most and content == jpeg(noise(), most)
        sizes.append(Image.open(io.BytesIO(content)).size)
    assert sizes[0] == (280, 196) and sizes[-1][0] < 280  # quality goes first, then size


def test_a_plain_frame_keeps_its_grey():
    content = jpeg(Image.new("RGB", (56, 56), (120, 120, 120)), 10_000)
    assert abs(np.asarray(Image.open(io.BytesIO(content))).mean() - 120) < 1


def test_nothing_but_the_picture_goes():
    image = noise()
    image.info |= {"comment": b"patient 17", "icc_profile": b"profile", "dpi": (300, 300), "exif": b"Exif\0\0patient"}
    assert jpeg(image, 100_000) == jpeg(noise(), 100_000)


def test_a_frame_that_cannot_fit_is_an_error():
    with pytest.raises(ValueError, match="280 x 196 pixels does not fit 100 bytes"):
        jpeg(noise(), 100)


def test_the_encoder_remembers_frames_of_a_store_only():
    encode = FrameEncoder(50_000, remembered=1)
    named = noise()
    named.info["frame"] = ("film.mp4", 0, 784)
    assert encode(named) is encode(named)
    assert encode(noise()) is not encode(noise())
