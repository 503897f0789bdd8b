"""The rendered world in words: its questions, and what can be seen in a scene."""

from medscope.records import Interval
from medscope.sources.source import TEMPLATES, Language


def view(interval: Interval) -> str:
    """What a dense look at a scene shows, as a sentence: `the cannula is used with bubbles in view`."""
    complication = interval.attributes.get("complication")
    return f"the {interval.attributes['instrument']} is used" + (
        f" with {complication} in view" if complication else ""
    )


LANGUAGE = Language(
    templates={
        **TEMPLATES,
        "instrument": ("Which instrument is used during the {label}?", "What is the tool of the {label}?"),
        "complication": ("Which complication occurs during the {label}?", "What goes wrong in the {label}?"),
        "order": ("Which phase comes right after the {label}?", "What follows the {label}?"),
    },
    view=view,
)
