"""Adversarial and robust fine-tuning as data: how the word embeddings are perturbed while a model is trained."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from xlt.errors import UsageFault

Method = Literal["fgm", "pgd", "freelb", "smart", "r3f", "smoothing"]
Settings = Mapping[str, float | int | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adversarial:
    """A method and its settings; those that a method does not have in ``DEFAULTS`` are as here, and mean nothing."""

    method: Method
    """``fgm`` and ``pgd``: the loss of a batch plus that of the batch moved against the model, in one step or several;
    ``freelb``: the mean loss over the steps of such a movement; ``smart``: the loss plus how far predictions move under
    noise that was moved to move them; ``r3f``: the same under mere noise; ``smoothing``: the loss under noise."""
    steps: int = 1
    """Gradients that a perturbation is made of; with FreeLB, passes that the weights learn from."""
    step_size: float = 0.0
    """What a step adds: to a sequence its Euclidean norm, with SMART its largest entry."""
    radius: float = 0.0
    """Largest Euclidean norm of the perturbation of a sequence; 0 leaves it free."""
    noise: float = 0.0
    """Size of the noise: the largest Euclidean norm of a sequence's, which is uniform (FreeLB, smoothing), the bound of
    each uniform entry (R3F), or the standard deviation of normal ones (SMART)."""
    weight: float = 1.0
    """What the loss under perturbation, or the divergence, is multiplied by before it is added to the loss."""
    proximal: float = 0.0
    """What the divergence from the predictions of averaged weights is multiplied by (SMART's Bregman proximal point);
    0 keeps no average."""
    momentum: float = 0.99
    """The part of itself that the average of the weights keeps in every step."""

    @classmethod
    def of(cls, given: Settings) -> Adversarial:
        """The method that ``given`` names, with its defaults where nothing else is given.

        Raises:
            ValueError: no such method or setting, or a value that it cannot have.
        """
        settings = dict(given)
        method: Any = settings.pop("method", "")
        if method not in DEFAULTS:
            raise ValueError(f"there is no adversarial method {method!r}: {', '.join(DEFAULTS)}")
        neutral = {each.name: each.default for each in fields(cls)}
        for name, value in settings.items():
            if name not in DEFAULTS[method] and (name not in neutral or value != neutral[name]):
                raise ValueError(f"{method} has no setting {name!r}: {', '.join(DEFAULTS[method])}")
            whole, end = name == "steps", 1 if name == "momentum" else float("inf")
            if not isinstance(value, int if whole else (int, float)) or not whole <= value < end:
                raise ValueError(f"{name} of {method} is {value!r}, not a number from {int(whole)} to below {end}")
        values: dict[str, Any] = {**DEFAULTS[method], **settings}
        return cls(method=method, **values)

    @classmethod
    def read(cls, text: str) -> Adversarial:
        """``of`` a text such as ``freelb`` or ``freelb,steps=3,radius=0.4``; raises ``UsageFault``."""
        method, *settings = text.split(",")
        try:
            numbers: dict[str, float | int] = {}
            for each in settings:
                name, _, value = each.partition("=")
                if name in numbers:
                    raise ValueError(f"{name} is given twice")
                numbers[name] = _number(value, each)
            return cls.of({"method": method, **numbers})
        except ValueError as error:
            why = f"{error}. It is written as METHOD or METHOD,SETTING=NUMBER,SETTING=NUMBER."
            raise UsageFault(f"'{text}' is no adversarial training.", why=why, fix="--adversarial freelb") from error

    @property
    def passes(self) -> int:
        """Backward passes to the weights that a batch takes: standard training takes one."""
        return {"freelb": self.steps, "fgm": 2, "pgd": 2}.get(self.method, 1)


# The settings that each method has. «Seen» is what was read in a paper or its authors' code, «copied» in code that many
# people copy and no paper that was read, «recalled» neither; what is only ours has no other source.
DEFAULTS: Mapping[str, Mapping[str, float | int]] = {
    # Copied: ε, there the norm for the whole matrix of embeddings; ours: the weight.
    "fgm": {"step_size": 1.0, "weight": 1.0},
    # Copied: all three, there for the whole matrix; ours: the weight.
    "pgd": {"steps": 3, "step_size": 0.3, "radius": 1.0, "weight": 1.0},
    # Seen: the launch script of FreeLB's authors for RoBERTa-large on MNLI.
    "freelb": {"steps": 2, "step_size": 0.1, "radius": 0.3, "noise": 0.1},
    # Seen: steps, step and noise in its authors' code (mt-dnn), which has no radius; recalled: weight and momentum. The
    # proximal point is off, as in that code, since it takes the memory of a second model.
    "smart": {"steps": 1, "step_size": 1e-3, "noise": 1e-5, "weight": 1.0, "proximal": 0.0, "momentum": 0.99},
    # Seen: both in its authors' code (fairseq).
    "r3f": {"noise": 1e-5, "weight": 1.0},
    # Ours: FreeLB's radius. The authors of the method on cross-lingual transfer released no noise of embeddings.
    "smoothing": {"noise": 0.3},
}
assert tuple(DEFAULTS) == get_args(Method)


def _number(text: str, setting: str) -> float | int:
    with suppress(ValueError):
        return int(text)
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"'{setting}' is no setting with a number") from None
