"""One of several processes of ``test_loop``: their dev scores differ, and each says where it stopped and with which."""

from __future__ import annotations

import json

from tests.train.test_loop import batch_stream, fresh_model
from xlt.model.encoder import PackedModel
from xlt.runtime import start_process_group, stop_process_group
from xlt.train.engine import EngineSettings, own_shard
from xlt.train.loop import DevResult, StepRecord, train


def stopped(zero: str) -> list[object]:
    called: list[PackedModel] = []
    records: list[StepRecord] = []

    def dev_score(model: PackedModel) -> DevResult:
        """On process 0 it falls, elsewhere it rises and is at chance."""
        called.append(model)
        return DevResult(50.0 + (len(called) if rank else -len(called)), bool(rank))

    trained = train(
        fresh_model(),
        batch_stream(steps=12, evaluate_every=2, patience=2),
        EngineSettings(zero=zero),
        on_step=records.append,
        dev_score=dev_score,
        collapse_after=0.25,
    )
    scores = [record.dev_score for record in records if record.dev_score is not None]
    return [len(records), trained.step, trained.collapsed, scores, len(called)]


start_process_group()
rank = own_shard(1).rank
print(json.dumps({zero: stopped(zero) for zero in ("0", "3")}))
stop_process_group()
