"""The tables of the rendered world: what every phase, event, instrument and complication looks like.

`drawing.py` paints with them. Points are complex numbers: x + y*1j, y downwards.
"""

import math

import numpy as np

Colour = tuple[int, int, int]
Look = tuple[Colour, Colour, str]
Mark = tuple[str, Colour, float, tuple[complex, ...]]  # area, line, disc or ring; colour; width or radius; points

GOLD, CYAN, VIOLET, GREEN, ORANGE = (255, 220, 20), (60, 225, 255), (160, 50, 245), (30, 205, 60), (255, 105, 0)
RED, WHITE, BLACK, BROWN, GREY = (225, 0, 20), (255, 255, 255), (16, 10, 14), (125, 72, 25), (150, 160, 178)
PALE, DARK = (225, 250, 240), (62, 48, 40)

# Instrument tips point along +x from the end of their shaft at 0; complications lie around 0. 1 is DETAIL pixels.
DETAIL = 84
DETAILS: dict[str, tuple[Mark, ...]] = {
    "forceps": (("line", GOLD, 0.17, (1 - 0.42j, 0.45 - 0.3j, 0, 0.45 + 0.3j, 1 + 0.42j)),),
    "blade": (("area", CYAN, 0, (-0.13j, 0.45 - 0.4j, 1, 0.45 + 0.4j, 0.13j)),),
    "cannula": (("line", VIOLET, 0.16, (0, 0.35)), ("ring", VIOLET, 0.34, (0.66,))),
    "probe": (("line", GREEN, 0.2, (0, 0.4)), ("disc", GREEN, 0.36, (0.62,))),
    "hook": (("line", ORANGE, 0.2, (-0.2j, 0.85 - 0.2j, 0.98 + 0.1j, 0.8 + 0.36j, 0.45 + 0.36j)),),
    "grasper": (
        ("area", GOLD, 0, (0, 0.3 - 0.44j, 1 - 0.36j, 0.4 - 0.1j)),
        ("area", GOLD, 0, (0, 0.3 + 0.44j, 1 + 0.36j, 0.4 + 0.1j)),
    ),
    "scissors": (("line", CYAN, 0.17, (-0.35j, 1 + 0.38j)), ("line", CYAN, 0.17, (0.35j, 1 - 0.38j))),
    "clipper": (("line", VIOLET, 0.2, (1 - 0.34j, 0.2 - 0.34j, 0.2 + 0.34j, 1 + 0.34j)),),
    "suction": (("line", GREEN, 0.42, (0, 1)), *(("disc", BLACK, 0.1, (x,)) for x in (0.25, 0.5, 0.75))),
    "cautery": (("line", ORANGE, 0.2, (0, 0.75)), ("line", ORANGE, 0.26, (0.85 - 0.45j, 0.85 + 0.45j))),
    "snare": (("ring", GOLD, 0.48, (0.52,)),),
    "brush": (
        ("line", CYAN, 0.14, (0, 1)),
        *(("line", CYAN, 0.1, (x - 0.36j, x + 0.36j)) for x in (0.25, 0.48, 0.71, 0.94)),
    ),
    "needle": (("area", VIOLET, 0, (-0.32j, 1.05, 0.32j)),),
    "basket": (("line", GREEN, 0.13, (0, 0.5 - 0.42j, 1, 0.5 + 0.42j, 0, 1)),),
    "loop": (("ring", ORANGE, 0.26, (0.26,)), ("ring", ORANGE, 0.26, (0.74,))),
    "bleeding": (("disc", RED, 0.3, (0, 0.22 + 0.2j)), ("disc", RED, 0.2, (-0.3 + 0.12j, 0.1 - 0.3j))),
    "bubbles": (
        ("disc", WHITE, 0.24, (-0.24 - 0.14j, 0.24 + 0.2j)),
        ("disc", WHITE, 0.16, (0.24 - 0.26j, -0.2 + 0.32j)),
    ),
    "prolapse": (("disc", BROWN, 0.46, (0,)), ("disc", BLACK, 0.15, (0.05 + 0.05j,))),
    "tear": tuple(
        ("line", colour, width, (-0.48 - 0.3j, -0.2 + 0.25j, -0.25j, 0.22 + 0.3j, 0.46 - 0.2j))
        for colour, width in (((255, 150, 160), 0.26), (BLACK, 0.12))
    ),
    "edema": (
        ("disc", GREY, 0.3, (-0.22, 0.22 - 0.06j)),
        ("line", WHITE, 0.07, (-0.4 + 0.06j, 0.4 + 0.06j)),
        ("line", WHITE, 0.07, (-0.34 - 0.16j, 0.4 - 0.16j)),
    ),
    "hemorrhage": (
        ("disc", RED, 0.32, (-0.1j,)),
        *(("line", RED, 0.14, (x - 0.1j, x + 0.45j)) for x in (-0.25, 0, 0.25)),
    ),
    "leak": (("area", (170, 225, 0), 0, (-0.5j, 0.4 + 0.15j, 0.2 + 0.46j, -0.2 + 0.46j, -0.4 + 0.15j)),),
    "smoke": (("disc", (205, 205, 215), 0.25, (-0.25 + 0.12j, 0.25 + 0.12j, -0.14j, 0.12j)),),
    "burn": (
        ("area", BLACK, 0, tuple((0.5 if k % 2 else 0.2) * np.exp(1j * math.pi * k / 7) for k in range(14))),
        ("disc", ORANGE, 0.12, (0,)),
    ),
    "perforation": (("disc", (255, 190, 200), 0.46, (0,)), ("disc", BLACK, 0.26, (0,))),
}
# Drawn on the pupil or organ of a phase; 1 is its (lesser) radius.
PATTERNS: dict[str, tuple[Mark, ...]] = {
    "plain": (),
    "swirls": tuple(("line", PALE, 0.15, tuple(r * 1j ** (k + r) for r in (0.2, 0.4, 0.6, 0.8))) for k in range(4)),
    "rings": tuple(("ring", DARK, radius, (0,)) for radius in (0.9, 0.6, 0.3)),
    "cross": (("line", DARK, 0.2, (0.6 + 0.5j, -0.6 - 0.5j)), ("line", DARK, 0.2, (0.5 - 0.6j, -0.5 + 0.6j))),
    "spokes": tuple(("line", PALE, 0.13, (0.3 * 1j ** (k / 2), 0.85 * 1j ** (k / 2))) for k in range(8)),
    "hoop": (("ring", GREY, 0.78, (0,)),),
    "lens": (
        ("disc", PALE, 0.62, (0,)),
        ("ring", WHITE, 0.66, (0,)),
        *(("line", WHITE, 0.1, (0.66 * side, (0.7 + 0.5j) * side, (0.3 + 0.85j) * side)) for side in (1, -1)),
    ),
    "bars": tuple(("line", DARK, 0.22, (x - 0.65j, x + 0.65j)) for x in (-0.55, 0, 0.55)),
    "stitches": (
        ("line", DARK, 0.1, (-0.9, 0.9)),
        *(("line", BLACK, 0.13, (x - 0.1 - 0.4j, x + 0.1 + 0.4j)) for x in (-0.6, -0.2, 0.2, 0.6)),
    ),
}

# The look of a phase: tint of the light in percent, colour of the pupil or organ, pattern on it.
EYE_LOOKS: dict[str, Look] = {
    "incision": ((105, 98, 92), (30, 16, 18), "plain"),
    "viscoelastic": ((74, 105, 86), (110, 220, 170), "swirls"),
    "staining": ((62, 74, 116), (30, 50, 200), "plain"),
    "capsulorhexis": ((105, 68, 48), (235, 80, 35), "hoop"),
    "hydrodissection": ((110, 92, 50), (240, 185, 60), "rings"),
    "phacoemulsification": ((62, 68, 78), (240, 240, 240), "cross"),
    "aspiration": ((108, 68, 96), (180, 60, 155), "spokes"),
    "implantation": ((92, 112, 118), (40, 140, 165), "lens"),
    "polishing": ((108, 110, 66), (250, 245, 175), "plain"),
    "suturing": ((48, 40, 38), (105, 85, 85), "stitches"),
}
ABDOMEN_LOOKS: dict[str, Look] = {
    "exploration": ((105, 100, 98), (125, 165, 95), "plain"),
    "dissection": ((114, 104, 58), (235, 190, 60), "swirls"),
    "clipping": ((68, 84, 120), (190, 205, 225), "bars"),
    "division": ((92, 60, 106), (210, 135, 215), "cross"),
    "coagulation": ((62, 46, 36), (110, 70, 48), "rings"),
    "irrigation": ((56, 106, 114), (60, 180, 205), "swirls"),
    "extraction": ((118, 118, 118), (252, 250, 242), "hoop"),
    "closure": ((60, 86, 54), (225, 180, 145), "stitches"),
}
# An event covers the whole view with a colour, to a share of its strength.
EVENTS: dict[str, tuple[Colour, float]] = {
    "flash": ((255, 255, 250), 0.75),
    "dye": ((25, 50, 200), 0.72),
    "blur": ((130, 170, 140), 0.7),
    "bleed": ((170, 0, 14), 0.75),
    "darkening": ((6, 4, 10), 0.78),
}
LOOKS = EYE_LOOKS | ABDOMEN_LOOKS
IRISES: tuple[Colour, ...] = ((112, 72, 40), (84, 122, 160), (96, 120, 70), (146, 108, 56), (112, 120, 126))
# What the camera of a family looks at.
VIEWS = {"cataract": "eye", "clips": "lumen", "laparoscopy": "abdomen", "laparoscopy_clips": "abdomen"}
