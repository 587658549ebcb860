"""Claim 5: sparse activation: of the parameters 12 % instead of 35 % work on a token.

Three networks of one total size, counted by `count_parameters`: 5 of 16 experts a token, 4 of 64 finer ones, and one
expert as wide as all of them, which every token takes: the dense network. What that costs and saves is kept beside: in
each round every network takes one step on the same rows, one after the other, so that all meet the same neighbours on
the machine; a ratio of speeds is the median over rounds, and all have seen equal tokens when their held-out loss is
compared.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch

from benchmarks.claims.claim import Claim, Measurement
from benchmarks.claims.training import SOURCE, mixed_rows, nano_spec, new_network
from serving.loader import as_served
from serving.runner import Runner
from serving.scheduler import Chunk, Sequence
from trainer.data.rows import Batch
from trainer.engine.loop import learning_rate
from trainer.engine.precision import MasterOptimizer, pick_device, place
from trainer.model.config import ModelConfig
from trainer.model.presets import preset, regrained
from trainer.model.transformer import Transformer, count_parameters
from trainer.spec import Optimizer, SftSpec
from trainer.stages.sft import draw, heldout_loss, objective

STEPS, QUICK_STEPS = 200, 80
WARM_ROUNDS = 3  # a processor's kernels are built when a shape is first met
OPTIMIZER = Optimizer(lr=2e-3)
DECODE_ROUNDS, PROMPT_TOKENS, NEW_TOKENS, BLOCK_TOKENS = 5, 32, 64, 16
RATIOS = (("12 %", "35 %"), ("12 %", "dense"), ("35 %", "dense"))
COARSE, FINE = preset("coarse-35"), preset("fine-12")
# The same shares in a network that one core trains in minutes.
QUICK = ModelConfig(
    vocab_size=512,
    hidden_size=128,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=384,
    max_position_embeddings=256,
    tie_word_embeddings=True,
)


def arms(whole: ModelConfig) -> dict[str, ModelConfig]:
    """The three networks of the size of one, by their active share."""
    grains = {"35 %": COARSE, "12 %": FINE}
    cut = {name: regrained(whole, c.num_local_experts, c.num_experts_per_tok) for name, c in grains.items()}
    return {"dense": regrained(whole, 1, 1), **cut}


def spec_of(config: ModelConfig, seed: int, steps: int) -> SftSpec:
    return nano_spec(seed, steps, None).model_copy(update={"model": config, "optimizer": OPTIMIZER})


@dataclass
class Arm:
    """A network in training."""

    spec: SftSpec
    model: Transformer
    optimizer: MasterOptimizer

    @staticmethod
    def start(config: ModelConfig, seed: int, steps: int) -> "Arm":
        spec = spec_of(config, seed, steps)
        model = place(new_network(spec), spec.precision, pick_device())
        return Arm(spec, model, MasterOptimizer(model, spec.optimizer))

    def step(self, batch: Batch, progress: float) -> None:
        output = self.model(batch.tokens_BL, segments_BL=batch.segments_BL)
        objective(self.spec, self.model, output, batch)[0].backward()  # type: ignore[no-untyped-call]
        self.optimizer.step(learning_rate(self.spec.optimizer, progress))


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def in_turn(actions: Mapping[str, Callable[[], object]], number: int) -> dict[str, float]:
    """Seconds of each in one round; who begins changes from round to round."""
    names = list(actions)
    first = number % len(names)
    return {name: seconds(actions[name]) for name in names[first:] + names[:first]}


def compare(what: str, work: int, rounds: Iterable[dict[str, float]]) -> dict[str, float]:
    """Tokens/s of each arm and ratios of speeds, medians over the rounds that warm nothing up."""
    timed = list(rounds)[WARM_ROUNDS:]
    found = {f"{name}: {what}, tokens/s": work / median(spent[name] for spent in timed) for name in timed[0]}
    for one, other in RATIOS:
        found[f"{what}: {one} over {other}, times"] = median(spent[other] / spent[one] for spent in timed)
    return found


def train(running: dict[str, Arm]) -> dict[str, float]:
    """All arms on the same rows, a step of each in turn."""
    spec = next(iter(running.values())).spec
    memory = {"drawn": {SOURCE: 0.0}, "owed": {SOURCE: 0.0}}
    rows, rounds = {SOURCE: mixed_rows("train")}, []
    for step in range(spec.steps):
        batch = draw(spec, rows, spec.phases[0], memory).to(pick_device())
        steps = {name: partial(arm.step, batch, step / spec.steps) for name, arm in running.items()}
        rounds.append(in_turn(steps, step))
    return compare("training", batch.tokens_BL.numel(), rounds)


def answer(runner: Runner) -> None:
    """One request, as the serving engine runs it when nobody else asks: the prompt in a step, then a token a step."""
    blocks = list(range(-(-(PROMPT_TOKENS + NEW_TOKENS) // BLOCK_TOKENS)))
    sequence = Sequence("request", list(range(PROMPT_TOKENS)), blocks)
    start = 0
    for _ in range(NEW_TOKENS):
        _, logits_NV = runner.run([Chunk(sequence, start, len(sequence.tokens) - start)])
        start = len(sequence.tokens)
        sequence.tokens.append(int(logits_NV.argmax()))


def decode(configs: dict[str, ModelConfig], seed: int) -> dict[str, float]:
    """One request at a time, greedy, in bfloat16; what the weights are does not matter to the speed."""
    blocks = -(-(PROMPT_TOKENS + NEW_TOKENS) // BLOCK_TOKENS)
    answers: dict[str, Callable[[], object]] = {}
    for name, config in configs.items():
        model = new_network(spec_of(config, seed, 1)).to(pick_device()).eval()
        answers[name] = partial(answer, Runner(as_served(model, "bfloat16"), blocks, BLOCK_TOKENS))
    return compare("decoding", NEW_TOKENS, (in_turn(answers, n) for n in range(WARM_ROUNDS + DECODE_ROUNDS)))


def experiment(whole: ModelConfig, seed: int, steps: int) -> Measurement:
    """Train the three networks of a size; `before` and `after` are counted on the very networks that are trained."""
    configs = arms(whole)
    counts = {name: count_parameters(config) for name, config in configs.items()}
    running = {name: Arm.start(config, seed, steps) for name, config in configs.items()}
    details = {f"{name}: parameters, million": count.total / 1e6 for name, count in counts.items()}
    details |= train(running)
    heldout = {SOURCE: mixed_rows("heldout")}
    details |= {f"{name}: held-out loss": heldout_loss(arm.model, heldout) for name, arm in running.items()}
    active = {name: 100 * count.active / count.total for name, count in counts.items()}
    return Measurement(before=active["35 %"], after=active["12 %"], details=details)


def measure(seed: int, quick: bool) -> Measurement:
    found = experiment(QUICK, seed, QUICK_STEPS) if quick else experiment(COARSE, seed, STEPS)
    # In a network as small as the quick one decoding waits for Python, not for weights: always at the full size.
    return Measurement(found.before, found.after, found.details | decode(arms(COARSE), seed))


CLAIM = Claim(
    number=5,
    title="parameters that work on a token, fine-grained experts against coarse ones of the same total size",
    unit="% of all parameters",
    before=35.0,
    after=12.0,
    measure=measure,
    limits="the 3.2 times faster inference stands among the details, of one request at a time in the serving engine, "
    "without HTTP; losses are those of the first steps, at one learning rate for all networks",
)
