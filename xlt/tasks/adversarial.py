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
            ValueError: no table of settings, no such method or setting, or a value that it cannot have.
        """
        if not isinstance(given, Mapping):
            raise ValueError(f'adversarial is {given!r}, not a table such as {{ method = "freelb" }}')
        settings = dict(given)
        method: Any = settings.pop("method", "")
        if method not in [*DEFAULTS]:
            raise ValueError(f"there is no adversarial method {method!r}: {', '.join(DEFAULTS)}")
        neutral = {each.name: each.default for each in fields(cls)}
        for name, value in settings.items():
            if name in DEFAULTS[method]:
                _check(method, name, value)
            elif name not in neutral or value != neutral[name]:
                raise ValueError(f"{method} has no setting {name!r}: {', '.join(DEFAULTS[method])}")
        values: dict[str, Any] = {**DEFAULTS[method], **settings}
        if not (values.get("weight", 1) or values.get("proximal")):
            raise ValueError(f"with weight 0 and proximal 0 {method} learns from no perturbation (default: weight 1.0)")
        if method == "freelb" and values["steps"] == 1 and not values["noise"]:
            raise ValueError("with one step and noise 0 freelb perturbs nothing (default: 2 steps, noise 0.1)")
        return cls(method=method, **values)

    @classmethod
    def read(cls, text: str) -> Adversarial:
        """``of`` a text such as ``freelb`` or ``freelb,steps=3,radius=0.4``; raises ``UsageFault``."""
        method, *settings = (each.strip() for each in text.split(","))
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
            fix = f"--adversarial {method if method in DEFAULTS else 'freelb'}, with its default settings."
            raise UsageFault(f"'{text}' is no adversarial training.", why=why, fix=fix) from error

    def __str__(self) -> str:
        """As ``read`` takes it, with every setting of the method."""
        settings = (f"{name}={getattr(self, name):g}" for name in DEFAULTS[self.method])
        return ",".join([self.method, *settings])

    @property
    def passes(self) -> int:
        """Backward passes to the weights that a batch takes: standard training takes one."""
        return {"freelb": self.steps, "fgm": 2, "pgd": 2}.get(self.method, 1)

    @property
    def cost(self) -> float:
        """The matrix products of a step in those of a standard one: a pass forward makes one, back to weights two (the
        gradients of weights and of inputs), back to the perturbation alone one; a standard step makes three."""
        if self.method in ("freelb", "smoothing"):
            forward, to_weights, to_inputs = self.steps, self.steps, 0
        elif self.method in ("fgm", "pgd"):
            forward, to_weights, to_inputs = self.steps + 1, 2, self.steps - 1
        else:  # the pass without noise and the last one under it, both of which the weights learn from
            ascent = self.steps if self.method == "smart" else 0
            forward, to_weights, to_inputs = 2 + ascent + bool(self.proximal), 2, ascent
        return (forward + 2 * to_weights + to_inputs) / 3


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

# The word embeddings of a sequence have a norm of some tens. What is larger than all of them replaces the text, and
# what is smaller than fp32 tells apart there leaves it as it is.
SMALLEST, LARGEST, MOST_STEPS = 1e-8, 1e3, 100
# Without these nothing would be perturbed, where a method has them: FreeLB's noise is only where its steps begin.
_NEVER_ZERO = {
    "step_size": (*DEFAULTS,),
    "noise": ("smart", "r3f", "smoothing"),
    "weight": ("fgm", "pgd", "r3f"),
}


def _check(method: str, name: str, value: object) -> None:
    """Raise ``ValueError`` unless the setting is a number that the method can use."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")
    if name == "steps":
        fits, range_ = isinstance(number, int) and 1 <= number <= MOST_STEPS, f"a whole number from 1 to {MOST_STEPS}"
    elif name == "momentum":
        fits, range_ = 0 <= number < 1, "a number from 0 to below 1"
    else:
        fits, range_ = SMALLEST <= number <= LARGEST, f"a number from {SMALLEST:g} to {LARGEST:g}"
        if method not in _NEVER_ZERO.get(name, ()):
            fits, range_ = fits or number == 0, f"0 or {range_}"
    if not fits:
        shown = f"'{value}'" if isinstance(value, str) else value
        raise ValueError(f"{name} of {method} is {shown}, not {range_} (default: {DEFAULTS[method][name]})")


def _number(text: str, setting: str) -> float | int:
    with suppress(ValueError):
        return int(text)
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"'{setting}' is no setting with a number") from None
