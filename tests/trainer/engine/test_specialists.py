"""Specialists and dynamic capacity in a real fine-tuning: what is learnt, what is left behind, and going on exactly."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tests.trainer import tiny
from tests.trainer.arithmetic import DiesAt, Killed, metric_rows, weights_of
from trainer.artifacts import Run, RunFolder, new_folder
from trainer.data.pieces import document_pieces
from trainer.data.rows import Batch, open_rows
from trainer.data.sources import record
from trainer.data.structure.kinds import CODE_KINDS
from trainer.data.tokenizer import Tokenizer
from trainer.engine.checkpoint import load_snapshot
from trainer.engine.dynamic_capacity import MEAN_DECAY, DynamicCapacity, capacity_metrics
from trainer.engine.loop import Loop
from trainer.engine.specialists import GROUPS, Specialists
from trainer.model.mixtral import load_model
from trainer.model.moe import Routing
from trainer.model.transformer import Output
from trainer.spec import DOMAINS, SftSpec, SpecialistSettings
from trainer.stages import sft

VOCABULARY, CONTEXT = 340, 48
DOCUMENTS = (
    ("code", "python", "def area(width, height):\n    return width * height + {}\n\n"),
    ("science", "en", r"The sum $\sum_{{i=0}}^{{{}}} x_i$ is at most $\frac{{a}}{{b}} + \sqrt{{c}}$. "),
    ("multilingual", "de", "Der Hafen war im Jahr {} schon sehr früh zugefroren. "),
    ("general", "en", "The harbour books say that year {} was a cold one. "),
)
SPEC = {
    "kind": "sft",
    "name": "sft",
    "model": tiny.config(vocab_size=VOCABULARY).model_dump(),
    "steps": 40,
    "batch_rows": 8,
    "snapshot_every": 3,
    "compile": False,
    "precision": "fp32",
    "optimizer": {"lr": 0.01},
    "specialists": {"specialisation_weight": 0.3},
    "dynamic_capacity": True,
    "phases": [{"phase": "text", "share": 1.0, "mix": {"text": 1.0}}],
}


@cache
def mixed_tokenizer() -> Tokenizer:
    return Tokenizer.train([text.format(n) for _, _, text in DOCUMENTS for n in range(40)], VOCABULARY)


def mixed_run(path: Path) -> RunFolder:
    """What a tokenize job leaves of short documents of all domains in turn."""
    folder, tokenizer = RunFolder(path), mixed_tokenizer()
    with new_folder(folder.artifacts / "tokenizer") as target:
        tokenizer.save(target)
    records = [
        record("".join(text.format(n + i) for i in range(6)), "s", domain, language)  # type: ignore[arg-type]
        for n in range(40)
        for domain, language, text in DOCUMENTS
    ]
    with new_folder(folder.artifacts / "tokens") as target:
        for split, part in (("train", records[:-16]), ("heldout", records[-16:])):
            pieces = document_pieces(tokenizer, part)
            tiny.write_pieces(target / "text" / split, pieces, CONTEXT, tokenizer.pad_id, whole=False)
    return folder


def new_run(path: Path, **changes: object) -> tuple[SftSpec, Run]:
    dataset = path.parent / "dataset"
    inputs = {"dataset": RunFolder(dataset) if dataset.exists() else mixed_run(dataset)}
    run = tiny.new_run(path, {**SPEC, **changes}, inputs)
    spec = run.folder.job().spec
    assert isinstance(spec, SftSpec)
    return spec, run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    spec, run = new_run(tmp_path_factory.mktemp("trained") / "run")
    sft.run(spec, run)
    return run.folder


def test_tokens_come_to_the_experts_of_their_domain_and_heads_learn_the_labels(trained: RunFolder) -> None:
    for group, share in zip(GROUPS, (2 / 8, 3 / 8, 3 / 8), strict=True):
        purity = metric_rows(trained, f"group_purity/{group}")
        assert purity[-1] > max(purity[0], share) + 0.2, f"{group}: {purity}"
    for name in ("specialisation_loss", "structure_loss/code", "structure_loss/science", "cross_entropy"):
        losses = metric_rows(trained, name)
        assert sum(losses[-5:]) < 0.8 * sum(losses[:5]), name


def test_capacity_is_reported_and_its_slots_are_paid_for(trained: RunFolder) -> None:
    overflow, used = (metric_rows(trained, f"capacity/{name}") for name in ("overflow", "utilisation"))
    stuck = metric_rows(trained, "capacity/kept_by_first_choice")
    assert len(overflow) == len(used) == len(stuck) == 4
    for lost, share in zip(stuck, used, strict=True):
        assert share <= 0.8 + 1e-2, "1.25 slots are paid for each choice"
        assert share >= 0.8 - lost / (8 * CONTEXT * 2 * 2) - 1e-2, "only choices that stayed over the slots use none"
    assert 0 < max(overflow) < 0.5


def test_the_checkpoint_holds_mixtrals_tensors_alone_and_opens(trained: RunFolder) -> None:
    with safe_open(trained.checkpoint() / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert names
    assert all(name.startswith(("model.", "lm_head.")) for name in names)
    assert load_model(trained.checkpoint()).config == tiny.config(vocab_size=VOCABULARY)
    found = load_snapshot(trained.volatile)
    assert found is not None
    heads = [name for name in found[0] if name.startswith("weight/auxiliary.")]
    assert len(heads) == 2 * 2 * 2, "weight and bias of the heads of two groups in two layers"


def test_a_killed_run_goes_on_bit_for_bit(trained: RunFolder, tmp_path: Path) -> None:
    spec, run = new_run(tmp_path / "run")
    with pytest.raises(Killed):
        sft.run(spec, DiesAt(run.folder, 20))
    sft.run(spec, Run(run.folder))
    assert weights_of(run.folder) == weights_of(trained)
    for name in ("loss", "capacity/overflow", "structure_loss/code"):
        assert metric_rows(run.folder, name) == metric_rows(trained, name)
    states = [load_snapshot(folder.volatile) for folder in (run.folder, trained)]
    assert states[0] is not None
    assert states[1] is not None
    assert states[0][1]["memory"] == states[1][1]["memory"]


def test_groups_that_are_not_all_experts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"are 7, but the network has num_local_experts 8"):
        new_run(tmp_path / "run", specialists={"code": 1})
    with pytest.raises(ValueError, match=r"num_local_experts 4"):
        Specialists(SpecialistSettings(), tiny.network(tiny.config(num_local_experts=4)))


def a_batch(path: Path) -> Batch:
    rows = open_rows(mixed_run(path).artifact("tokens"), "train")["text"]
    batch = rows.take(torch.arange(24).numpy())
    assert set(batch.domains_BL.unique().tolist()) >= set(range(len(DOMAINS)))
    return batch


def test_history_is_the_mean_of_earlier_steps_and_starts_even(tmp_path: Path) -> None:
    spec, run = new_run(tmp_path / "run")
    model, batch = tiny.network(spec.model), a_batch(tmp_path / "rows")
    capacity = DynamicCapacity(Loop(run, spec, model), model.config)
    assert torch.equal(capacity.history(), torch.full((2, 8), 1 / 8))
    seen, weights = [], []
    for step in range(4):
        rooms = capacity.rooms(batch)
        assert [int(room.slots_E.sum()) for room in rooms] == [int(1.25 * 2 * batch.tokens_BL.numel())] * 2
        output = model((batch.tokens_BL + step) % VOCABULARY, capacity=rooms)
        before = capacity.history()
        capacity.observe(output, batch)
        assert not torch.equal(before, capacity.history())
        seen.append(torch.stack([logits.softmax(dim=-1).mean(dim=0) for logits in output.router_logits_TE]).double())
        weights = [MEAN_DECAY * weight for weight in weights] + [1.0]
    expected = sum(w * mean for w, mean in zip(weights, seen, strict=True)) / sum(weights)
    torch.testing.assert_close(capacity.history(), expected, atol=1e-7, rtol=1e-6)  # type: ignore[arg-type]
    assert json.loads(json.dumps(capacity.state.memory)) == capacity.state.memory


def test_metrics_of_capacity_count_what_was_moved(tmp_path: Path) -> None:
    spec, run = new_run(tmp_path / "run")
    model, batch = tiny.network(spec.model), a_batch(tmp_path / "rows")
    rooms = DynamicCapacity(Loop(run, spec, model), model.config).rooms(batch)
    output, free = model(batch.tokens_BL, capacity=rooms), model(batch.tokens_BL)
    found = capacity_metrics(output, rooms)
    first_layer = [o.routing[0].choices_Tk for o in (output, free)]
    moved = float((first_layer[0] != first_layer[1]).float().mean())
    assert found["capacity/overflow"] >= moved / 2 > 0
    assert found["capacity/utilisation"] <= 0.8


def test_structure_is_taught_to_the_experts_that_the_tokens_went_to(tmp_path: Path) -> None:
    """Code tokens that went to the code experts alone teach these and no other; those that went elsewhere, nobody."""
    torch.manual_seed(0)
    specialists = Specialists(SpecialistSettings(), tiny.network())
    for head in specialists.heads.parameters():
        torch.nn.init.normal_(head)
    batch = a_batch(tmp_path / "rows")
    tokens, code = batch.tokens_BL.numel(), (batch.domains_BL == DOMAINS.index("code")).flatten()
    inside = torch.arange(tokens) % 2 == 0
    went = torch.where(inside[:, None], torch.tensor([0, 1]), torch.tensor([6, 7]))
    mixed = torch.randn(tokens, 32, requires_grad=True)
    routing = Routing(torch.full((tokens, 2), 0.5), went)
    logits = torch.zeros(tokens, 8)
    output = Output(torch.zeros(0), (logits, logits), (routing, routing), (mixed, mixed))
    loss, parts = specialists.loss(output, batch)
    (gradient,) = torch.autograd.grad(loss, mixed)
    taught = gradient.abs().sum(dim=1) > 0
    labelled = batch.structure_BL.flatten() >= 0
    assert torch.equal(taught & code, labelled & code & inside)
    assert parts["structure_loss/code"] > 0.5 * torch.log(torch.tensor(float(len(CODE_KINDS)))).item()
    assert parts["structure_loss/science"] == 0, "no science token went to a science expert"


def test_purity_counts_the_assignments_of_each_groups_tokens(tmp_path: Path) -> None:
    specialists, batch = Specialists(SpecialistSettings(), tiny.network()), a_batch(tmp_path / "rows")
    domains = batch.domains_BL.flatten()
    went = torch.tensor([[0, 1], [0, 4], [5, 7], [6, 2]])[domains.long()]
    output = Output(torch.zeros(0), (), (Routing(went, went),) * 2)
    general, foreign = (int((domains == DOMAINS.index(name)).sum()) for name in ("general", "multilingual"))
    found = specialists.purity(output, batch)
    assert found["group_purity/code"] == 1
    assert found["group_purity/science"] == 0.5
    assert found["group_purity/general"] == pytest.approx((foreign + general / 2) / (foreign + general))


def test_load_by_domain_counts_each_assignment_once_and_no_padding(tmp_path: Path) -> None:
    specialists, batch = Specialists(SpecialistSettings(), tiny.network()), a_batch(tmp_path / "rows")
    domains = batch.domains_BL.flatten()
    went = torch.randint(8, (len(domains), 2), generator=torch.Generator().manual_seed(0))
    [load_ES] = specialists.load_by_domain(Output(torch.zeros(0), (), (Routing(went, went),)), batch)
    real = [(int(expert), int(domain)) for token, domain in enumerate(domains) if domain >= 0 for expert in went[token]]
    for expert, load_S in enumerate(load_ES):
        assert load_S == pytest.approx([real.count((expert, domain)) / len(real) for domain in range(len(DOMAINS))])


def test_experts_without_a_role_are_found_in_a_run(tmp_path: Path) -> None:
    """Without the loss that draws tokens to their group, hardly any expert learns one in a few steps."""
    aimless = {"specialisation_weight": 0.0, "structure_weight": 0.0}
    spec, run = new_run(tmp_path / "run", steps=11, specialists=aimless, optimizer={"lr": 1e-6})
    sft.run(spec, run)
    assert "roleless" in {finding["kind"] for finding in run.folder.result()["findings"]}
