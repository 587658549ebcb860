"""Supervised fine-tuning with a curriculum: phases of the run draw from different mixes of sources."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from trainer.artifacts import Run
from trainer.data.drawn import DrawRecord
from trainer.data.mixture import shares
from trainer.data.rows import Batch, Rows, concatenate, open_rows
from trainer.data.tokenizer import Tokenizer
from trainer.engine.checkup import checkup, findings
from trainer.engine.compilation import CrossEntropy, compile_step
from trainer.engine.dynamic_capacity import DynamicCapacity, capacity_metrics
from trainer.engine.loop import Loop
from trainer.engine.next_token import next_token_loss
from trainer.engine.precision import pick_device, place
from trainer.engine.specialists import Specialists
from trainer.engine.syntax import SyntaxCheck
from trainer.flops import training_flops
from trainer.memory import keep_freed_memory
from trainer.model.capacity import Room
from trainer.model.mixtral import load_model
from trainer.model.moe import expert_counts
from trainer.model.transformer import Output, Transformer
from trainer.objectives import chunked_cross_entropy, router_balance_loss, router_z_loss
from trainer.spec import DOMAINS, Domain, PhaseSpec, SftSpec

SOURCES = ("text", "completion", "dialogue")
HELDOUT_ROWS, HELDOUT_TOKENS = 16, 65_536  # of each source, at most
HELDOUT_CHECKS = 20  # over the run
LOAD_EVERY = 10


def run(spec: SftSpec, run: Run) -> None:
    """Train from `model` or an input checkpoint; leaves one checkpoint at the end."""
    keep_freed_memory()
    dataset = run.input("dataset")
    tokenizer = Tokenizer.load(dataset.artifact("tokenizer"))
    train, heldout = (open_rows(dataset.artifact("tokens"), split) for split in ("train", "heldout"))
    check_sources(spec, train)
    model = start_model(spec, run, tokenizer)
    model.checkpoint_activations = spec.checkpoint_activations
    cross_entropy = compile_step(model, spec.compile, run)
    specialists = Specialists(spec.specialists, model) if spec.specialists else None
    heads = specialists.heads if specialists else None
    syntax = SyntaxCheck(spec.syntax_penalty, train.get("completion"), tokenizer)
    loop = Loop(run, spec, model, new_memory(train), budget_s=budget(spec, run), auxiliary=heads)
    record = DrawRecord(run.folder)
    capacity = DynamicCapacity(loop, model.config) if spec.dynamic_capacity else None
    device, dtype = model.embed_tokens.weight.device, model.embed_tokens.weight.dtype
    count = sum(p.numel() for p in model.parameters())
    run.log(f"training {count:,} parameters in {dtype}, precision {spec.precision}")
    check_every = max(1, spec.steps // HELDOUT_CHECKS)
    for step in loop.steps():
        phase = phase_at(spec.phases, loop.progress)
        before = dict(loop.memory["drawn"])
        batch = draw(spec, train, phase, loop.memory)
        count_tokens(loop.memory["seen"], batch)
        batch = batch.to(device)
        rooms = capacity.rooms(batch) if capacity else None
        output = model(
            batch.tokens_BL, segments_BL=batch.segments_BL, capacity=rooms, keep_expert_outputs=specialists is not None
        )
        loss, parts = objective(spec, model, output, batch, cross_entropy, specialists)
        if capacity:
            capacity.observe(output, batch)
        if syntax.due(step, phase):
            penalty, more = syntax.loss(model, loop.generator)
            loss, parts = loss + penalty, parts | more
        load = expert_load(model, output, batch) if step % LOAD_EVERY == 0 else []
        if load:
            parts |= expert_metrics(output, batch, load, rooms, specialists)
        if step % check_every == 0:
            parts["heldout_loss"] = heldout_loss(model, heldout)
        flops = training_flops(model.config, *batch.tokens_BL.shape)
        # Before the update, which may write a snapshot: a run killed in between takes the step, and writes it, again.
        record.add(loop.step + 1, phase.phase, before, loop.memory["drawn"])
        loop.update(loss, parts, tokens=batch.tokens_BL.numel(), flops=flops)
        if load:
            checkup(loop, spec.doctor, load, specialists.load_by_domain(output, batch) if specialists else None)
    if not run.stop_requested:
        loop.save_checkpoint(model.config, tokenizer)
        run.folder.write_result(report(loop))


def new_memory(sources: Iterable[str]) -> dict[str, Any]:
    """Rows drawn of each source so far, what each is still owed of its share, and tokens seen of each domain."""
    owed = dict.fromkeys(SOURCES, 0.0)
    return {"drawn": dict.fromkeys(sources, 0), "owed": owed, "seen": dict.fromkeys(DOMAINS, 0)}


def report(loop: Loop) -> dict[str, Any]:
    seen = loop.memory["seen"]
    return {
        "train_seconds": loop.seconds,
        "steps": loop.step,
        "rows_drawn": loop.memory["drawn"],
        "tokens_seen": seen,
        "shares_seen": shares(seen),
        "findings": findings(loop),
    }


def check_sources(spec: SftSpec, sources: dict[str, Rows]) -> None:
    """Every source a phase draws from must have rows."""
    for phase in spec.phases:
        for source, weight in phase.mix.items():
            if weight > 0 and source not in sources:
                raise ValueError(
                    f"phase '{phase.phase}' draws from '{source}', of which the dataset has no rows; "
                    f"it has {', '.join(sources)}"
                )


def start_model(spec: SftSpec, run: Run, tokenizer: Tokenizer) -> Transformer:
    """A fresh network, or the input checkpoint's, in the run's precision."""
    device = pick_device()
    if spec.model is None:
        checkpoint = run.input("checkpoint").checkpoint()
        if not tokenizer.encodes_like(Tokenizer.load(checkpoint)):
            raise ValueError(
                "the dataset was not made with the checkpoint's tokenizer; bind the checkpoint to the tokenize job too"
            )
        return place(load_model(checkpoint, torch.float32), spec.precision, device).train()
    if spec.model.vocab_size != tokenizer.vocab_size:
        raise ValueError(
            f"model.vocab_size is {spec.model.vocab_size} but the tokenizer has {tokenizer.vocab_size} tokens; "
            "make them equal"
        )
    model = Transformer(spec.model)
    model.reset_parameters(torch.Generator().manual_seed(spec.seed))
    return place(model, spec.precision, device)


def budget(spec: SftSpec, run: Run) -> float | None:
    """Seconds that the run bound to `budget` trained, when one is bound."""
    if "budget" not in spec.inputs:
        return None
    seconds = run.input("budget").result().get("train_seconds")
    if not seconds:
        raise ValueError("the run bound to 'budget' recorded no train_seconds; bind a training job that succeeded")
    return float(seconds)


def phase_at(phases: tuple[PhaseSpec, ...], progress: float) -> PhaseSpec:
    """The curriculum phase at a share of the run."""
    end = 0.0
    for phase in phases:
        end += phase.share
        if progress < end:
            return phase
    return phases[-1]


def draw(spec: SftSpec, sources: dict[str, Rows], phase: PhaseSpec, memory: dict[str, dict[str, float]]) -> Batch:
    """The next rows in the phase's mix, by smooth weighted round robin; updates how many were drawn and are owed."""
    drawn, owed, total = memory["drawn"], memory["owed"], sum(phase.mix.values())
    counts = dict.fromkeys(phase.mix, 0)
    for _ in range(spec.batch_rows):
        for name, weight in phase.mix.items():
            owed[name] += weight / total
        chosen = max(phase.mix, key=lambda name: owed[name])
        owed[chosen] -= 1
        counts[chosen] += 1
    batches = []
    for name, count in counts.items():
        if count:
            batches.append(sources[name].take(sources[name].drawn(int(drawn[name]), count, spec.seed)))
            drawn[name] += count
    return concatenate(batches)


def count_tokens(seen: dict[Domain, int], batch: Batch) -> None:
    """Add a batch's tokens to those seen of each domain."""
    for domain, count in batch.tokens_by_domain().items():
        seen[domain] += count


def objective(
    spec: SftSpec,
    model: Transformer,
    output: Output,
    batch: Batch,
    cross_entropy_of: CrossEntropy = chunked_cross_entropy,
    specialists: Specialists | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy on the targets that count, plus load balance (within each group of specialists), router z-loss and
    the specialists' losses, averaged over layers."""
    mask_T = (batch.segments_BL > 0).flatten()
    cross_entropy = next_token_loss(model, output, batch, cross_entropy_of)
    layers = output.router_logits_TE
    top_k = model.config.num_experts_per_tok
    groups = specialists.settings.sizes if specialists else None
    balance = torch.stack([router_balance_loss(logits_TE, top_k, mask_T, groups) for logits_TE in layers]).mean()
    z = torch.stack([router_z_loss(logits_TE, mask_T) for logits_TE in layers]).mean()
    parts = {"cross_entropy": cross_entropy.item(), "balance_loss": balance.item(), "router_z_loss": z.item()}
    loss = cross_entropy + spec.balance_weight * balance + spec.z_weight * z
    if specialists is None:
        return loss, parts
    special, more = specialists.loss(output, batch)
    return loss + special, parts | more


@torch.no_grad()
def heldout_loss(model: Transformer, heldout: dict[str, Rows]) -> float:
    """Mean cross-entropy over the first held-out rows of every source."""
    losses = []
    for rows in heldout.values():
        count = min(HELDOUT_ROWS, len(rows), rows.within(HELDOUT_TOKENS))
        batch = rows.take(torch.arange(count).numpy()).to(model.embed_tokens.weight.device)
        with torch.compiler.set_stance("force_eager"):  # to compile for these shapes too would take longer
            output = model(batch.tokens_BL, segments_BL=batch.segments_BL)
        losses.append(next_token_loss(model, output, batch).item())
    return sum(losses) / len(losses)


def expert_load(model: Transformer, output: Output, batch: Batch) -> list[list[float]]:
    """Each layer's experts' shares of the (token, choice) pairs, padding left out."""
    real_T = (batch.segments_BL > 0).flatten()
    counts_YE = expert_counts(output.routing, real_T, model.config.num_local_experts).float()
    load: list[list[float]] = (counts_YE / counts_YE.sum(dim=1, keepdim=True)).tolist()
    return load


def expert_metrics(
    output: Output, batch: Batch, load: list[list[float]], rooms: list[Room] | None, specialists: Specialists | None
) -> dict[str, float]:
    """Each expert's load, and how far roles and slots were kept where there are any."""
    metrics = {
        f"load/layer{layer}/expert{expert}": share
        for layer, shares in enumerate(load)
        for expert, share in enumerate(shares)
    }
    metrics |= specialists.purity(output, batch) if specialists else {}
    return metrics | (capacity_metrics(output, rooms) if rooms else {})
