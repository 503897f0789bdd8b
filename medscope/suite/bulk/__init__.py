"""Suite making at scale: a step is an async function item -> record, its results lie in append-only shards.

    report = await run_step(CaptionStep(...), segments, "scratch/teacher", concurrency=32)
    for caption in read_step("scratch/teacher", "captions", Caption): ...

What is done is never asked for again, whatever ended the run. `parquet` exports the finished suite, `cluster` runs the
same steps on many machines.
"""

from medscope.suite.bulk.results import funnel, read_step, rejected
from medscope.suite.bulk.runner import Report, run_step
from medscope.suite.bulk.step import Rejected, Step, StepStopped

__all__ = ["Rejected", "Report", "Step", "StepStopped", "funnel", "read_step", "rejected", "run_step"]
