"""The rendered procedures in words: the questions about the attributes of an event, and what a look at one shows."""

from medscope.records import Interval
from medscope.sources.rendered.words import EVENTS
from medscope.sources.source import TEMPLATES, Language


def view(interval: Interval) -> str:
    """What is in sight during an interval: `bleeding with the hook from the left and two marks`."""
    told = interval.attributes
    if "instrument" not in told:
        return interval.label
    return f"{interval.label} with the {told['instrument']} from {told['side']} and {told['count']} marks"


LANGUAGE = Language(
    templates={
        **{
            kind: TEMPLATES[kind]
            for kind in ("grounding", "order", "find", "which", "choose", "first", "full", "temporal")
        },
        "instrument": (
            "Which instrument is used at the {label} of the {within}?",
            "What is the tool at the {label} of the {within}?",
        ),
        "side": (
            "From which side does the tool come at the {label} of the {within}?",
            "Where does the tool come from at the {label} of the {within}?",
        ),
        "count": (
            "How many marks are there at the {label} of the {within}?",
            "What is the number of marks at the {label} of the {within}?",
        ),
    },
    describe=view,
    view=view,
    options=EVENTS,
)
