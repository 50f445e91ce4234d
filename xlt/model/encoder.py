"""The model: a backbone of the library, a head per task, and packed batches."""

from __future__ import annotations

import copy
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from xlt_kernels.seeds import seeds_of_a_pass

from xlt.data.packing import PackedBatch
from xlt.errors import DataFault, NotFiniteFault, UsageFault
from xlt.model import fused
from xlt.model.attention import LazyPlan
from xlt.model.backbone import Family, LoadedBackbone, first_position, language_model, load_backbone, new_backbone
from xlt.model.embeddings import added_to_words
from xlt.model.heads import class_loss, new_head
from xlt.model.inside import of_batch
from xlt.model.layout import padded_places, seen_whole, segments
from xlt.tasks.record import Kind

HEADS_INDEX = "heads.json"
HEADS_WEIGHTS = "heads.safetensors"
MOST_LABELS = 10_000  # a stored head asks for as many rows of memory
DROPOUTS = 3  # of a block: of attention weights, and before each of its two residuals


class PackedModel(nn.Module):
    """A backbone, the heads of tasks, and where present the backbone's own language-model head.

    It reads packed batches and its heads see packed hidden states, whatever the backbone: one that cannot be packed
    (``packed`` is false) gets the batch padded in ``_encode``. Of a decoder (``causal``) the heads read what has seen a
    text or a word whole (``seen_whole``). ``segments`` says whether the two texts of a pair get different segment ids;
    set it to what the model's tokenizer does. ``heads`` maps a task's key to its head. A new or loaded model is in
    evaluation mode: call ``train()`` for dropout.
    """

    def __init__(self, backbone: LoadedBackbone) -> None:
        super().__init__()
        self.backbone = backbone.encoder
        self.lm_head: nn.Module | None = backbone.lm_head
        self.lm_head_name = backbone.lm_head_name
        self.packed = backbone.packed
        self.causal = backbone.causal
        # Attention within a reach has been captured in no graph yet, and ALiBi plans its blocks on the host.
        self.reads_whole = not backbone.causal and not getattr(backbone.encoder.config, "sliding_window", None)
        self._uncached = {"use_cache": False} if backbone.causal else {}
        # Only until the tokenizer is known: that of XLM-R makes no segments for a BERT either.
        self.segments = (getattr(backbone.encoder.config, "type_vocab_size", None) or 0) > 1
        self.heads = nn.ModuleDict()
        if self.packed:
            fused.install(self.backbone)
        self.eval()

    @classmethod
    def fresh(cls, config: Mapping[str, Any], family: Family = "xlm-roberta") -> PackedModel:
        """A new XLM-R or BLOOM with its language-model head, from torch's global generator; see ``new_backbone``."""
        return cls(new_backbone(config, family))

    @classmethod
    def load(
        cls, name_or_folder: str | Path, *, revision: str | None = None, masked_lm: bool | None = None
    ) -> PackedModel:
        """A public checkpoint by name, or what :meth:`save` wrote, with its task heads. In fp32, on the CPU.

        ``masked_lm`` asks for the masked-LM head; ``None`` takes it where the checkpoint has one. Raises what
        ``load_backbone`` raises, and ``DataFault`` if the heads are damaged.
        """
        model = cls(load_backbone(name_or_folder, revision=revision, masked_lm=masked_lm))
        model._load_heads(Path(name_or_folder))
        return model

    def save(self, folder: str | Path, *, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """Write config.json, model.safetensors and, with task heads, heads.json and heads.safetensors.

        ``state_dict`` gives the weights under the names of ``named_parameters()`` where this process does not
        hold them (ZeRO), or holds rounded ones. Raises ``ValueError`` if it lacks a weight.
        """
        folder = Path(folder)
        weights = self._each_once(self.state_dict() if state_dict is None else state_dict)
        backbone = _below(weights, "backbone.")
        # Not by save_pretrained(), which takes the numeric type of config.json from the weights in memory: bf16 under
        # DeepSpeed, where the weights given are fp32.
        config = copy.deepcopy(self.backbone.config)
        config.architectures = [type(self.backbone).__name__]
        config.dtype = next(iter(backbone.values())).dtype
        if self.lm_head is not None:
            whole = language_model(config)
            config.architectures = [whole.__name__]
            backbone = {f"{whole.base_model_prefix}.{name}": weight for name, weight in backbone.items()}
            lm_head = _below(weights, "lm_head.")
            backbone |= {f"{self.lm_head_name}.{name}": weight for name, weight in lm_head.items()}
        folder.mkdir(parents=True, exist_ok=True)
        config.save_pretrained(str(folder))
        _save_weights(backbone, folder / "model.safetensors")
        if not self.heads:
            # Heads of an earlier save would be taken for this model's.
            (folder / HEADS_INDEX).unlink(missing_ok=True)
            (folder / HEADS_WEIGHTS).unlink(missing_ok=True)
            return
        index = {
            task: {"kind": head.kind, "labels": head.labels} | ({"names": head.names} if head.names else {})
            for task, head in self.heads.items()
        }
        (folder / HEADS_INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
        _save_weights(_below(weights, "heads."), folder / HEADS_WEIGHTS)

    def _each_once(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of ``state``, each under its first name: the library ties those with several names again."""
        names: dict[int, list[str]] = defaultdict(list)
        for name, parameter in self.named_parameters(remove_duplicate=False):
            names[id(parameter)].append(name)
        given = {aliases[0]: next((n for n in aliases if n in state), None) for aliases in names.values()}
        if absent := [name for name, source in given.items() if source is None]:
            raise ValueError(f"the state dict lacks {len(absent)} weights: {', '.join(absent[:3])} …")
        return {name: state[source].detach().cpu().contiguous() for name, source in given.items() if source is not None}

    def _load_heads(self, folder: Path) -> None:
        if not (folder / HEADS_INDEX).is_file():
            return
        try:
            index = json.loads((folder / HEADS_INDEX).read_text(encoding="utf-8"))
            for task, head in index.items():
                self.add_head(task, head["kind"], _labels(head))
            self.heads.load_state_dict(load_file(folder / HEADS_WEIGHTS))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            raise DataFault(
                f"The task heads in '{folder}' are damaged.",
                why=str(error),
                fix="Delete the run's folder and give the same command again: it trains the run anew.",
            ) from error

    def add_head(self, task: str, kind: Kind, labels: int | Sequence[str]) -> None:
        """Give ``task`` a fresh head (replacing one it has), drawn from torch's global generator.

        ``labels`` are the names of its classes in the order of its scores, which are stored with it, or how many
        there are.
        """
        config = self.backbone.config
        names = ("classifier_dropout", "hidden_dropout_prob", "hidden_dropout", "dropout")
        dropouts = [value for name in names if (value := getattr(config, name, None)) is not None]
        head = new_head(
            kind,
            hidden=config.hidden_size,
            labels=labels if isinstance(labels, int) else len(labels),
            dropout=[*dropouts, 0.1][0],
            std=getattr(config, "initializer_range", 0.02),
        )
        head.names = () if isinstance(labels, int) else tuple(labels)
        head.train(self.training)
        self.heads[task] = head.to(device=self.device, dtype=self.backbone.dtype)

    def _apply(self, fn: Any, recurse: bool = True) -> PackedModel:
        """What moves the model and changes its type, here and in DeepSpeed; frequencies of rotary positions, which the
        library computes in fp32, are only moved."""
        frequencies = {name: each for name, each in self.named_buffers() if name.endswith("inv_freq")}
        super()._apply(fn, recurse)
        for name, exact in frequencies.items():
            parent, _, own = name.rpartition(".")
            module = self.get_submodule(parent)
            setattr(module, own, exact.to(getattr(module, own).device))
        return self

    def compute_in(self, device: torch.device, precision: Literal["fp32", "bf16"]) -> PackedModel:
        """The model on ``device``, its encoder and masked-LM head in ``precision``; task heads stay in fp32."""
        heads = self.heads
        self.heads = nn.ModuleDict()
        self.to(device, torch.bfloat16 if precision == "bf16" else torch.float32)
        self.heads = heads.to(device)
        return self

    def drop_masked_lm_head(self) -> None:
        """Take the masked-LM head off; the word embeddings stay with the backbone."""
        self.lm_head = None

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.parameters()).device

    @property
    def first_position(self) -> int:
        """The position id of a sequence's first token (2 for XLM-R)."""
        return first_position(self.backbone)

    def forward(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """``(loss, scores)``: the summed loss over ``batch.denominator``, and what predictions are made from.

        The loss is a scalar in fp32, and NaN where the batch has no labels. Scores are fp32: pair
        classification ``[B, labels]``, multiple choice ``[B]``, tagging ``[M, labels]``, span QA ``[T, 2]``, masked
        LM empty, or with seeds of noise ``[M, V]``. No sequence may be empty.

        Raises:
            ValueError: the kind has no loss, or the model lacks the head.
        """
        hidden = self._encode(batch)
        if batch.kind == "masked_lm":
            return self._masked_lm(hidden, batch)
        if batch.task not in self.heads:
            raise ValueError(f"the model has no head for task {batch.task!r} ({batch.kind})")
        head: Any = self.heads[batch.task]
        if self.causal:
            hidden = hidden.index_select(0, seen_whole(batch))
        scores: Tensor = head(hidden, getattr(batch, head.reads))
        if batch.labels is None:
            return _no_loss(scores), scores
        loss: Tensor = head.loss(scores, batch.labels, batch) / batch.denominator
        return loss + self._idle(batch.task, hidden), scores

    def _idle(self, task: str, hidden: Tensor) -> Tensor | float:
        """Zero, with a zero gradient for the heads of other tasks, masked LM's among them."""
        # ZeRO stage 3 (its parameters have a ``ds_id``) applies a parameter's last gradient again in a step that gives
        # it none.
        others = [head for key, head in self.heads.items() if key != task]
        others += [self.lm_head] if self.lm_head is not None and task in self.heads else []
        if not self.training or not others or not hasattr(next(others[0].parameters()), "ds_id"):
            return 0.0
        nothing = hidden.new_zeros((2, hidden.shape[1]))
        first = torch.zeros(2, dtype=torch.int32, device=hidden.device)
        scores = [head(nothing) if head is self.lm_head else head(nothing, first) for head in others]
        return 0.0 * torch.stack([each.float().sum() for each in scores]).sum()

    @contextmanager
    def perturbed(self, batch: PackedBatch, perturbation: Tensor, *, trained: bool = True) -> Iterator[None]:
        """Within the block ``perturbation [T, E]`` is added to the word embeddings of ``batch``, and to no padding.
        Unless ``trained`` they get no gradient."""
        whole = perturbation.unsqueeze(0)
        if not self.packed:
            padded = whole.new_zeros(len(batch.cu_seqlens) - 1, batch.max_seqlen, whole.shape[2])
            whole = padded.flatten(0, 1).index_copy(0, padded_places(batch), perturbation).view_as(padded)
        with added_to_words(self.backbone, whole, trained=trained):
            yield

    def hidden_states(self, batch: PackedBatch, layer: int) -> Tensor:
        """Output ``[T, H]`` of transformer block ``layer`` (0: the embeddings).

        It is the library's ``hidden_states[layer]``. Nothing above it is computed where blocks have BERT's layout.

        Raises:
            UsageFault: there is no such block.
        """
        if not self.packed or not hasattr(self.backbone, "encoder"):
            # Behind the blocks of other families stands a norm, which is a part of the last one's output alone.
            states = self.all_hidden_states(batch)
            _check_block(layer, len(states) - 1)
            return states[layer]
        with _only_first(self.backbone, layer):
            return self._encode(batch)

    def all_hidden_states(self, batch: PackedBatch) -> tuple[Tensor, ...]:
        """Output ``[T, H]`` of the embeddings (first) and of every transformer block, from one pass: bit for bit what
        :meth:`hidden_states` gives of each."""
        if not self.packed:
            return self._padded_states(batch, every=True)
        states = self._packed_output(batch, output_hidden_states=True).hidden_states
        return tuple(hidden.squeeze(0) for hidden in states)

    def _encode(self, batch: PackedBatch) -> Tensor:
        if not self.packed:
            return self._padded_states(batch, every=False)[-1]
        hidden: Tensor = self._packed_output(batch).last_hidden_state.squeeze(0)
        return hidden

    def _packed_output(self, batch: PackedBatch, **asked: bool) -> Any:
        plan = LazyPlan(batch.cu_seqlens)
        bounds = {"cu_seqlens": batch.cu_seqlens, "max_seqlen": batch.max_seqlen, "lazy_plan": plan}
        seeds = seeds_of_a_pass(DROPOUTS * self.backbone.config.num_hidden_layers)
        with seeds, of_batch(**bounds):
            return self.backbone(
                input_ids=batch.input_ids.unsqueeze(0),
                position_ids=batch.position_ids.unsqueeze(0),
                **bounds,
                **{name: tensor.unsqueeze(0) for name, tensor in self._segments(batch).items()},
                **self._uncached,
                **asked,
            )

    def _padded_states(self, batch: PackedBatch, *, every: bool) -> tuple[Tensor, ...]:
        """The batch as ``[B, L]`` with an attention mask through the library's own model: the tokens ``[T, H]`` of its
        last layer, or of every one."""
        shape, places = (len(batch.cu_seqlens) - 1, batch.max_seqlen), padded_places(batch)

        def pad(tokens: Tensor, filler: int | Tensor = 0) -> Tensor:
            slots = tokens.new_empty(shape[0] * shape[1])
            slots[:] = filler
            return slots.index_copy(0, places, tokens).view(shape)

        padding = self.backbone.config.pad_token_id
        output = self.backbone(
            # Without a padding token any other will do that has an embedding: the mask hides it.
            input_ids=pad(batch.input_ids, batch.input_ids[0] if padding is None else padding),
            attention_mask=pad(torch.ones_like(batch.input_ids)),
            output_hidden_states=every,
            **self._uncached,
            **{name: pad(tensor) for name, tensor in self._segments(batch).items()},
        )
        states = output.hidden_states if every else (output.last_hidden_state,)
        return tuple(hidden.flatten(0, 1).index_select(0, places) for hidden in states)

    def _segments(self, batch: PackedBatch) -> dict[str, Tensor]:
        """``token_type_ids [T]`` where the tokenizer makes segments."""
        return {"token_type_ids": segments(batch)} if self.segments else {}

    def _masked_lm(self, hidden: Tensor, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        if self.lm_head is None:
            raise ValueError("the model has no language-model head")
        empty = hidden.new_zeros(0, dtype=torch.float32)
        if batch.labels is None or batch.scored_positions is None:
            return _no_loss(empty), empty
        # The head is the widest product of the model: only rows from which a token is predicted go through it.
        rows = hidden.index_select(0, batch.scored_positions)
        scores = self.lm_head(rows)
        loss = class_loss(scores, batch.labels) / batch.denominator
        # Only adversarial training compares them: they are too large to be kept for nothing.
        return loss + self._idle(batch.task, hidden), empty if batch.noise_seeds is None else scores


def check_finite(values: npt.NDArray[Any], of: str) -> None:
    """Raise ``NotFiniteFault`` if a value that the model computed is not a finite number; ``of`` names the values."""
    if not np.isfinite(values).all():
        raise NotFiniteFault(
            f"The model's {of} are not finite numbers.",
            why="Its training diverged, or the checkpoint is damaged.",
            fix="Look at the losses in log.jsonl of the run that trained it.",
        )


@contextmanager
def inference(model: nn.Module, device: torch.device | str) -> Iterator[None]:
    """Run ``model`` on ``device`` without gradients and dropout; then leave it in the mode in which it came."""
    training = model.training
    model.to(device).eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def _labels(head: dict[str, Any]) -> Any:
    """The names of a stored head's labels, or if it has none their number."""
    names = head.get("names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("the names of the labels are not a list of texts")
    if not isinstance(head["labels"], int) or not 0 <= head["labels"] <= MOST_LABELS:
        raise ValueError(f"a head has {head['labels']!r:.40} labels")
    if names and len(names) != head["labels"]:
        raise ValueError(f"{len(names)} names for {head['labels']} labels")
    return names or head["labels"]


def _save_weights(weights: dict[str, Tensor], path: Path) -> None:
    save_file(weights, path, metadata={"format": "pt"})
    # The library makes its files readable for their owner alone, whatever the umask.
    shutil.copymode(path.with_name("config.json"), path)


def _below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def _no_loss(like: Tensor) -> Tensor:
    return like.new_full((), torch.nan)


def _check_block(layer: int, blocks: int) -> None:
    if not 0 <= layer <= blocks:
        raise UsageFault(
            f"There is no block {layer}: the backbone has {blocks} blocks.",
            why="1 stands for the output of the first block.",
            fix=f"--layer, from 1 to {blocks}.",
        )


@contextmanager
def _only_first(backbone: Any, layer: int) -> Iterator[None]:
    layers = backbone.encoder.layer
    _check_block(layer, len(layers))
    backbone.encoder.layer = layers[:layer]
    try:
        yield
    finally:
        backbone.encoder.layer = layers
