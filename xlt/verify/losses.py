"""The first and the last loss of a training, computed again: they tie its log to the weights before and after it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from xlt.data.packing import PackedBatch
from xlt.errors import EnvironmentFault, XltError
from xlt.model.encoder import PackedModel
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import RunStore
from xlt.pipeline.training import fit_heads, fresh_model, load_model, training_seed
from xlt.tasks.adversarial import Adversarial
from xlt.train.batches import StepShard
from xlt.train.perturbation import losses
from xlt.train.seeding import derive_seed, seed_everything
from xlt.verify.log import Log, read_log
from xlt.verify.recheck import find_model
from xlt.verify.stored import GridFile, Problem, StoredRun
from xlt.verify.trainings import Examples, OtherData

# The first loss is the same to 1e-6 under every instruction set that was tried, and every fault that was tried moves it
# by 1 % at least (see artifact/golden). The last one is logged before the last update, which changes it by up to
# 0.15 % in the smoke tier: the learning rate has fallen to almost nothing by then.
FIRST_APART, LAST_APART, SLOW = 1e-3, 0.02, 0.01
# Two rates of dropout: those of encoders, and those of BLOOM.
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "hidden_dropout", "attention_dropout")


def check_losses(
    store: RunStore, grid: GridFile, runs: Sequence[StoredRun], examples: Examples
) -> tuple[int, list[Problem]]:
    """Compute the first loss of each training from the weights that it starts from, and the last from those it made.

    Returns of how many trainings, and what contradicts their logs. Left out are those whose models are not here, and
    those with dropout or in bf16, whose losses are not determined so closely.
    """
    problems: list[Problem] = []
    count = 0
    for run in runs:
        log = read_log(store.path(run.entry.folder)) if run.spec and run.spec.train else None
        if run.spec is None or log is None or run.spec.precision != "fp32":
            continue
        try:
            found = _contradictions(store, run.spec, log, runs, examples)
        except (EnvironmentFault, MemoryError, torch.OutOfMemoryError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # as in predicting again, which says what is wrong with a model
            continue
        if found is not None:
            count += 1
            problems += [
                Problem(kind="log", run=run.entry.folder, where="log.jsonl", what=what, fix=grid.command)
                for what in found
            ]
    return count, problems


def _contradictions(
    store: RunStore, spec: RunSpec, log: Log, runs: Sequence[StoredRun], examples: Examples
) -> list[str] | None:
    """What the losses of a log are otherwise than the weights give; None where that cannot be told."""
    own = find_model(store, spec, runs)
    parent = find_model(store, spec.model_copy(update={"train": ()}), runs) if spec.parent else None
    if own is None or (parent is None and (spec.parent or spec.backbone.name)):
        return None
    ended, tokenizer = load_model(own)
    rates = [rate for name in DROPOUTS if (rate := getattr(ended.backbone.config, name, None)) is not None]
    if len(rates) < 2 or any(rates):
        return None
    steps = [1]
    how = spec.training_recipe().adversarial
    # Of a training that keeps its best weights, or ends at a high learning rate, the last loss is of other weights; and
    # the average that a proximal point is of is not stored.
    averaged = bool(how and how.proximal)
    if (
        not averaged
        and not spec.recipe.get("evaluate_every")
        and log.lines[-1].learning_rate <= SLOW * spec.number("learning_rate")
    ):
        steps.append(len(log.lines))
    try:
        stream = examples.filled(spec, steps, tokenizer, ended)
    except (OtherData, XltError):  # said of the log already
        return None
    seed = training_seed(spec)
    seed_everything(derive_seed(seed, spec.phase, *spec.train))
    begun = load_model(parent)[0] if parent else fresh_model(spec.backbone, len(tokenizer))
    fit_heads(begun, examples.tasks(spec), seed)
    looks = ((begun, FIRST_APART, "that it starts from"), (ended, LAST_APART, "that it made"))
    found = []
    for step, (model, apart, whose) in zip(steps, looks, strict=False):
        model.train()
        loss = sum(_loss(model, batch, how) for batch in stream.micro_batches(step - 1, StepShard()))
        logged = log.lines[step - 1].loss
        if not math.isclose(loss, logged, rel_tol=apart, abs_tol=1e-4):
            found.append(f"By log.jsonl the loss of step {step} is {logged:.4g}; the weights {whose} give {loss:.4g}.")
    return found


def _loss(model: PackedModel, batch: PackedBatch, how: Adversarial | None) -> float:
    """What a log says of a batch: the loss, in adversarial training the mean of those that the weights learn from."""
    if how is None:
        with torch.no_grad():
            return float(model(batch)[0])
    total = 0.0
    for loss in losses(model, batch, how, model, model, model if how.proximal else None):
        if how.passes > 1:  # a backward pass tells where to move next
            loss.backward()
        total += float(loss.detach()) / how.passes
    return total
