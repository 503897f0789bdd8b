"""What the tests of the endpoint teacher share: budgets, models of a server, drafts, a step that is done."""

import asyncio

from medscope.environment import ToolBudget
from medscope.records import Window
from medscope.remote import RemoteModel
from medscope.suite.teachers.endpoint.questions import (
    Question,
    make_draft,
)
from medscope.suite.teachers.endpoint.structured import StructuredModel

LOOK = ToolBudget(skim_frames=4, crop_frames=16)
BUDGET = ToolBudget(skim_frames=4, crop_frames=8)


def remote_of(server, **settings):
    return RemoteModel("MEDSCOPE_TEACHER", server.url, "teacher", **{"retries": 0, "timeout": 5.0} | settings)


def model_of(server, **settings):
    return StructuredModel(remote_of(server, **settings))


def do(step, item):
    assert step.key(item) == step.key(item) and len(step.key(item)) == 64
    return asyncio.run(step(item))


def question(**changes):
    fields = {"kind": "perception", "form": "choice", "question": "Which tool is used?", "answer": "hook"}
    fields |= {"wrong": ["clip", "saw", "drill"], "subject": "tool", "start": 2.5, "end": 5.2}
    return fields | changes


def valid(**changes):
    return Question.model_validate(question(**changes), context={"window": Window(0, 12)})


def draft_of(film, **changes):
    return make_draft(film, "0.0", valid(**changes))
