"""What the camera sees: the tissue of each view, the light of a phase, events, instruments, and what blinds it."""

from medscope.sources.rendered.painters import abdomen, bladder, eye, joint, lumen

VIEWS = {
    "eye": eye.paint,
    "lumen": lumen.paint,
    "joint": joint.paint,
    "bladder": bladder.paint,
    "abdomen": abdomen.paint,
}
