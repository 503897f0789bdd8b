"""A model by its name: a folder of weights, a checkpoint of the Hub, or an OpenAI-compatible endpoint.

`ask`, the reading room and the evaluation open models here, so that a name means the same model and error in all.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from medscope.agents.endpoint_agent import EndpointAgent
from medscope.agents.model_card import BUDGET, card_warning, read_budget
from medscope.environment import ToolBudget
from medscope.remote import RemoteModel, is_endpoint
from medscope.session import Session, ask_endpoint, ask_policy

TINY = Path(__file__).resolve().parents[1] / "models" / "tiny"
ENDPOINT_BUDGET = ToolBudget(skim_frames=64, crop_frames=32, max_turn_tokens=4096)  # fits most models and purses


@dataclass(frozen=True)
class EndpointSettings:
    """How an endpoint is asked. `model` None: the one that MEDSCOPE_MODEL_MODEL names. Prices: dollars per million."""

    model: str | None = None
    calls: Literal["native", "tags"] = "native"
    allow_remote: bool = False
    request: dict[str, Any] = field(default_factory=dict)
    timeout: float = 120.0
    price_in: float | None = None
    price_out: float | None = None


@dataclass(frozen=True)
class Model:
    """Something that answers a `Session` within a budget. `says`: what its card says of videos that it never saw."""

    name: str
    budget: ToolBudget
    answer: Callable[[Session], None]
    says: str = ""

    def warning(self, video: str) -> str:
        """What a reader must know of an answer on this video: the card; "" for the video that comes with our model."""
        own = Path(self.name).resolve() == TINY and Path(video).resolve().parent == TINY.parent
        return "" if own else self.says


def open_model(
    name: str,
    budget: ToolBudget | None = None,
    endpoint: EndpointSettings | None = None,
    otherwise: ToolBudget | None = None,
) -> Model:
    """The model of a name; weights are loaded with its first answer, once.

    `budget` goes before the model's own; `otherwise` is that of a folder which holds no budget.json. Raises
    FileNotFoundError for a folder without a budget or for the tiny model where it is not there, ValueError for a
    budget that is none, EndpointError for an endpoint that is not configured.
    """
    if is_endpoint(name):
        return _endpoint(name, budget or ENDPOINT_BUDGET, endpoint or EndpointSettings())
    folder = Path(name)
    if folder.resolve() == TINY and not folder.is_dir():
        raise FileNotFoundError(f"there is no {TINY}; fetch it, or give --model a folder or the URL of an endpoint")
    if budget is None and folder.is_dir():
        known = otherwise is None or (folder / BUDGET).is_file()
        budget = read_budget(folder / BUDGET) if known else otherwise
    says = card_warning(folder) if folder.is_dir() else ""

    @cache
    def policy() -> Any:
        from medscope.agents.policy import load_policy

        return load_policy(name)

    return Model(name, budget or ToolBudget(), lambda session: ask_policy(session, policy()), says)


def open_remote(name: str, settings: EndpointSettings, **limits: Any) -> RemoteModel:
    """The endpoint of a name that `is_endpoint`; `limits` are retries and the circuit of `RemoteModel`."""
    return RemoteModel(
        "MEDSCOPE_MODEL", None if name == "endpoint" else name, settings.model, settings.allow_remote,
        timeout=settings.timeout, price_in=settings.price_in, price_out=settings.price_out, **limits,
    )  # fmt: skip


def _endpoint(name: str, budget: ToolBudget, settings: EndpointSettings) -> Model:
    agent = EndpointAgent(open_remote(name, settings, retries=2), budget, settings.calls, request=settings.request)
    return Model(name, budget, lambda session: ask_endpoint(session, agent))
