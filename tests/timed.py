"""Videos whose frames tell their index: at an even rate, at an uneven one, and large; with their times."""

import numpy as np
import pytest
from media import grey_frames, write_mp4

TENTHS = np.arange(12) / 10
UNEVEN = np.array([0, 0.1, 0.2, 0.7, 0.75, 0.8, 1.8, 2.8, 2.9, 3.0, 3.3, 3.6])


@pytest.fixture(name="even", scope="module")
def even_fixture(tmp_path_factory):
    return write_mp4(tmp_path_factory.mktemp("media") / "even.mp4", TENTHS)


@pytest.fixture(name="uneven", scope="module")
def uneven_fixture(tmp_path_factory):
    return write_mp4(tmp_path_factory.mktemp("media") / "uneven.mp4", UNEVEN)


@pytest.fixture(name="large", scope="module")
def large_fixture(tmp_path_factory):
    """640 x 480: a red band on top, a green one on the left, then grey that tells the index."""
    frames = grey_frames(12, (640, 480)).copy()
    frames[:, :160, :], frames[:, 160:, :160] = (200, 0, 0), (0, 200, 0)
    return write_mp4(tmp_path_factory.mktemp("media") / "large.mp4", TENTHS, frames)
