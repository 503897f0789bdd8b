"""The vocabulary of the rendered procedures, and which pairs of words only the composition set shows."""

PHASES = ("inspection", "incision", "dissection", "irrigation", "coagulation", "resection", "suturing", "extraction")
STEPS = ("grasping", "cutting", "rinsing", "spreading", "holding")
EVENTS = ("bleeding", "tear", "bubbles", "burn", "leak", "swelling")
INSTRUMENTS = ("hook", "blade", "probe", "forceps", "needle")
SIDES = ("left", "right", "above", "below")
COUNTS = ("one", "two", "three", "four")  # of small marks
CAMERA = ("smoke", "glare", "outside")

TRAINING_VIEWS = ("eye", "lumen", "joint", "bladder")
UNSEEN_VIEW = "abdomen"

PREFERRED = {phase: INSTRUMENTS[i % len(INSTRUMENTS)] for i, phase in enumerate(PHASES)}

# A quarter of the (phase, event) pairs; every event lacks two phases, every phase one or two events.
WITHHELD_EVENTS = frozenset(
    (phase, event) for i, phase in enumerate(PHASES) for j, event in enumerate(EVENTS) if (i + j) % 4 == 0
)
WITHHELD_PHASES = frozenset((view, PHASES[2 * i + 1]) for i, view in enumerate(TRAINING_VIEWS))  # (view, phase)
