"""Write ``artifact/golden``: a small trained checkpoint and what it must give, computed without packing or DeepSpeed.

    python -m artifact.documents.golden train RESULTS   # the checkpoint: phase 1, then all tasks at once; 5 minutes
    python -m artifact.documents.golden                 # what it must give; half a minute

What must come out is computed in fp64 by the library's own XLM-R with padding and its own positions, and by a plain
training loop with torch's AdamW. Only the heads, the batches' order and the decoding of predictions are this project's.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import XLMRobertaForMaskedLM

from xlt.cli.progress import RunBars
from xlt.files import write_text
from xlt.model.backbone import LoadedBackbone
from xlt.model.encoder import PackedModel
from xlt.pipeline.executor import Executor
from xlt.pipeline.grid import GridBuilder
from xlt.pipeline.sources import SourceOptions
from xlt.pipeline.store import RunStore
from xlt.pipeline.tiers import Arm, read_tier
from xlt.pipeline.training import Prepared, load_model
from xlt.tasks.record import Recipe
from xlt.train.batches import StepShard
from xlt.train.engine import EngineSettings
from xlt.train.seeding import deterministic
from xlt.verify import golden
from xlt.verify.evidence import Evidence, GoldenCell, GoldenStep

ARM = "golden"
STEPS = 3000


def train_checkpoint(results: Path) -> None:
    """Train every task that has a head, and masked LM, at once from phase 1, and keep the model."""
    tier = read_tier("smoke")
    plan = tier.plan("world")
    tasks = [*plan.arms["multi"].intermediate, "pawsx", "udpos", "panx", "tydiqa"]
    arm = Arm(intermediate=tasks, targets=[], masked_lm=True)
    plan = plan.model_copy(update={"arms": {ARM: arm}, "recipes": {**plan.recipes, ARM: {"steps": STEPS}}})
    tier = tier.model_copy(update={"sources": {"world": plan}})
    grid = GridBuilder(tier, golden.golden_world(), seed=0, precision="fp32").grid()
    store = RunStore(results)
    deterministic(True)
    with RunBars() as shown:
        executor = Executor(golden.golden_world(), SourceOptions(), store, EngineSettings(), shown, tier.threads)
        executor.run_grid(grid)
    kept = golden.golden_folder() / "model"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(store.path(grid.runs[-1].folder) / "model", kept)


def reference_of(model: PackedModel) -> PackedModel:
    """The same weights in the library's own padded model, in fp64; the heads are this project's."""
    config = type(model.backbone.config)(**model.backbone.config.to_dict())
    library = XLMRobertaForMaskedLM._from_config(config, attn_implementation="eager", dtype=torch.float64)
    library.roberta.load_state_dict(model.backbone.state_dict())
    if model.lm_head is not None:
        library.lm_head.load_state_dict(model.lm_head.state_dict())
    reference = PackedModel(LoadedBackbone(library.roberta, library.lm_head if model.lm_head else None, packed=False))
    reference.segments = model.segments
    for task, head in model.heads.items():
        its: Any = head
        reference.add_head(task, its.kind, list(its.names) or its.labels)
        reference.heads[task].load_state_dict(head.state_dict())
    return reference.double()


def first_steps(start: Prepared, count: int) -> list[GoldenStep]:
    """The first steps of a training by a plain loop: AdamW, clipped gradients, linear warm-up and decay."""
    model, recipe, steps = reference_of(start.model).train(), start.stream.recipe, start.stream.steps
    spared = {name for name, _ in model.named_parameters() if name.endswith("bias") or "layer_norm" in name.lower()}
    spared |= {name for name, _ in model.named_parameters() if "LayerNorm" in name}
    groups = [
        {"params": [p for n, p in model.named_parameters() if n not in spared], "weight_decay": recipe.weight_decay},
        {"params": [p for n, p in model.named_parameters() if n in spared], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, recipe.adam_beta2), eps=recipe.adam_epsilon, foreach=False)
    taken = []
    for step in range(count):
        (batch,) = start.stream.micro_batches(step, StepShard())
        rate = learning_rate(recipe, step, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        for parameter in model.parameters():
            # Not None: with DeepSpeed the heads of other tasks get a gradient of zero, and their momentum goes on.
            parameter.grad = torch.zeros_like(parameter)
        loss, _ = model(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clipping)
        optimizer.step()
        digest = start.stream.digest(step)
        its = start.stream.task_of(step), loss.item(), rate, batch.tokens, digest
        taken.append(GoldenStep(**dict(zip(GoldenStep.model_fields, its, strict=True))))
    return taken


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Linear from 0 up over the warm-up, then linear down to 0 at the last step."""
    rising = int(recipe.warmup * steps)
    if step < rising:
        return recipe.learning_rate * step / rising
    return recipe.learning_rate * (steps - step) / (steps - rising)


def evidence() -> tuple[Evidence, dict[str, torch.Tensor]]:
    """What must come out, and the hidden states of every block."""
    trainings, schedules, gradients, cells = {}, {}, {}, {}
    for spec in golden.golden_trainings():
        with tempfile.TemporaryDirectory() as scratch:
            start, count = golden.golden_start(spec, Path(scratch))
            schedules[spec.name] = golden.golden_schedules(spec, start, Path(scratch), learning_rate)
        (batch,) = start.stream.micro_batches(0, StepShard())
        gradients[spec.name] = golden.gradient_norms(reference_of(start.model).train(), batch)
        trainings[spec.name] = tuple(first_steps(start, count))
    model, tokenizer = load_model(golden.golden_folder() / "model")
    reference = reference_of(model)
    batch = golden.golden_batch(model, tokenizer)
    with torch.inference_mode():
        blocks = range(model.backbone.config.num_hidden_layers + 1)
        states = {str(layer): reference.hidden_states(batch, layer).float().contiguous() for layer in blocks}
    for cell, run in golden.golden_cells().items():
        made = golden.golden_predictions(run, cell, reference, tokenizer)
        parts = zip(*((each.id, each.prediction, each.score) for each in made), strict=True)
        cells[cell] = GoldenCell(**dict(zip(GoldenCell.model_fields, parts, strict=True)))
    origin = f"fp64, transformers' padded XLM-R with eager attention, torch {torch.__version__}, torch.optim.AdamW"
    return Evidence(origin=origin, trainings=trainings, schedules=schedules, gradients=gradients, cells=cells), states


def main() -> None:
    """See the head of this module."""
    if sys.argv[1:2] == ["train"]:
        train_checkpoint(Path(sys.argv[2]))
        return
    found, states = evidence()
    folder = golden.golden_folder()
    write_text(folder / "evidence.json", found.model_dump_json() + "\n")
    save_file(states, folder / "states.safetensors")
    shutil.copymode(folder / "evidence.json", folder / "states.safetensors")


if __name__ == "__main__":
    main()
