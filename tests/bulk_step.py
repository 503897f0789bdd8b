"""A step of suite making against an endpoint, for tests in this process and, as a script, for one that is killed.

python tests/bulk_step.py FOLDER URL ITEMS
"""

import asyncio
import sys

from medscope.records import Caption, Window
from medscope.remote import RemoteModel
from medscope.suite.bulk import Rejected, run_step


class AskStep:
    """Number -> Caption, by one request. Every seventh item is rejected by the step itself."""

    name = "captions"

    def __init__(self, url, **settings):
        self.remote = RemoteModel(url=url, model="m", **{"retries": 0, "timeout": 5.0, "trip": 10**9} | settings)

    def key(self, item):
        return f"{item}-v1"

    async def __call__(self, item):
        messages = [{"role": "user", "content": f"item {item}"}]
        choice = await asyncio.to_thread(self.remote.complete, messages, "a number")
        if item % 7 == 0:
            return Rejected(f"seventh: {item}")
        return Caption(f"video {item}", Window(item, item + 1), choice.message.content)


if __name__ == "__main__":
    step = AskStep(sys.argv[2])
    asyncio.run(run_step(step, range(int(sys.argv[3])), sys.argv[1], concurrency=4))
