"""The model `medscope` of lmms-eval: our rollout, by a policy or an endpoint; or predictions that were made before."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from tqdm import tqdm

from medscope.agents.model_card import read_budget
from medscope.environment import FrameStore
from medscope.evaluation.predictions import Prediction
from medscope.exports.lmms_eval.replies import quarantined_text, reply_text, task_of
from medscope.files import read_jsonl
from medscope.models import EndpointSettings, open_model
from medscope.remote import DialogueFailed, is_endpoint
from medscope.session import open_session


class MedScope(lmms):
    """`--model medscope --model_args name=NAME`: a folder of weights, a name of the Hub or an endpoint, as in `ask`.

    `budget` is a JSON file of frames, pixels and calls. `predictions=FILE` replays a file of predictions in the place
    of a model. `in_flight` dialogues are asked of an endpoint at once. A dialogue that fails is told in the reply's
    text, for the task to leave out; an outage ends the run (`EndpointError`). `batch_size`, `max_batch_size` and
    `device` are what lmms-eval passes to every model: the policy batches by its own limits.
    """

    def __init__(
        self,
        name: str = "",
        predictions: str = "",
        budget: str = "",
        decoder: str = "decord",
        in_flight: int = 4,
        calls: str = "native",
        model_name: str = "",
        allow_remote: bool = False,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        device: str | None = None,
    ):
        super().__init__()
        if bool(name) == bool(predictions):
            raise ValueError("give name=.. (a model) or predictions=.. (a file), and not both")
        self.known = {p.task.id: p for p in read_jsonl(predictions, Prediction)} if predictions else {}
        self.in_flight = int(in_flight) if is_endpoint(name) else 1
        self.store = FrameStore(decoder)
        if name:
            settings = EndpointSettings(model=model_name or None, calls=calls, allow_remote=bool(allow_remote))
            self.model = open_model(name, read_budget(Path(budget)) if budget else None, settings)

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """The texts of the replies, in the order of the requests."""
        with ThreadPoolExecutor(self.in_flight) as pool:
            replies = pool.map(self._reply, requests)
            return list(tqdm(replies, total=len(requests), desc="medscope", unit="task"))

    def _reply(self, request: Instance) -> str:
        question, _, videos, number, name, split = request.args
        doc = self.task_dict[name][split][number]
        if self.known:
            return self._known(doc)
        session = open_session(videos(doc)[0], question, self.store, self.model.budget)
        try:
            self.model.answer(session)
        except DialogueFailed as error:
            return quarantined_text(str(error))
        return reply_text(session.turns, session.environment.trace.calls)

    def _known(self, doc: dict[str, Any]) -> str:
        task = task_of(doc)
        if task.id not in self.known:
            raise ValueError(f"the predictions have none for {task.id}; export the suite that they were made of")
        found = self.known[task.id]
        return reply_text(found.turns, found.calls)

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        raise NotImplementedError("medscope generates; it has no log-likelihoods of given texts")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        raise NotImplementedError("medscope makes its rounds itself; use tasks of output_type generate_until")
