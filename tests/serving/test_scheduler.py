"""Laws of the block pool and the scheduler: no block is lost or owned twice, and every sequence ends."""

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.kv_cache import BlockPool
from serving.scheduler import Scheduler, Sequence

CONTEXT = 24
BLOCK = 4


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 40)), max_size=40))
def test_a_pool_neither_loses_nor_shares_blocks(steps: list[tuple[int, int]]) -> None:
    pool = BlockPool(12, BLOCK)
    owners: list[list[int]] = [[] for _ in range(5)]
    for owner, tokens in steps:
        before = list(owners[owner])
        if tokens == 0:
            pool.release(owners[owner])
        elif pool.grow(owners[owner], tokens):
            assert len(owners[owner]) * BLOCK >= tokens
        else:
            assert owners[owner] == before, "a refused growth changes nothing"
        held = [block for blocks in owners for block in blocks]
        assert len(held) == len(set(held)) == pool.used
        assert pool.used + pool.free == 12


@st.composite
def workloads(draw: st.DrawFn) -> list[tuple[int, int, int, bool]]:
    """(arrival step, prompt length, answer length, cancelled half-way) of some requests."""
    requests = []
    for _ in range(draw(st.integers(1, 12))):
        prompt = draw(st.integers(1, CONTEXT - 1))
        answer = draw(st.integers(1, CONTEXT - prompt))
        requests.append((draw(st.integers(0, 10)), prompt, answer, draw(st.booleans())))
    return requests


@settings(max_examples=200)
@given(workloads(), st.integers(6, 20), st.integers(1, 5), st.integers(0, 12))
def test_every_sequence_ends_and_gives_back_its_blocks(
    workload: list[tuple[int, int, int, bool]], budget: int, max_sequences: int, extra_blocks: int
) -> None:
    pool = BlockPool(CONTEXT // BLOCK + extra_blocks, BLOCK)
    scheduler = Scheduler(pool, budget, max_sequences)
    arrivals = {Sequence(str(i), [0] * prompt): plan for i, plan in enumerate(workload) for prompt in [plan[1]]}
    cached: dict[str, int] = {}
    generated: dict[str, int] = {}
    finished: set[str] = set()
    for step in range(2_000):
        for sequence, (arrival, _, _, _) in arrivals.items():
            if arrival == step:
                scheduler.add(sequence)
        if step > 10 and not scheduler.has_work():
            break
        if not scheduler.has_work():
            continue
        chunks = scheduler.schedule()
        assert chunks, "with work to do something always runs"
        assert sum(chunk.count for chunk in chunks) <= budget
        assert len({chunk.sequence.id for chunk in chunks}) == len(chunks)
        assert len(scheduler.running) <= max_sequences
        held = [block for sequence in arrivals for block in sequence.blocks]
        assert len(held) == len(set(held)) == pool.used
        for chunk in chunks:
            sequence = chunk.sequence
            assert sequence in scheduler.running, "a preempted sequence must not run"
            assert len(sequence.blocks) * BLOCK >= chunk.start + chunk.count
            # What is run continues what is in the cache; after a preemption it starts at nothing again.
            assert chunk.start in (0, cached.get(sequence.id, 0))
            cached[sequence.id] = chunk.start + chunk.count
            if not chunk.samples:
                continue
            sequence.tokens.append(0)
            generated[sequence.id] = generated.get(sequence.id, 0) + 1
            _, _, answer, cancelled = arrivals[sequence]
            if generated[sequence.id] == (max(1, answer // 2) if cancelled else answer):
                scheduler.remove(sequence)
                finished.add(sequence.id)
    assert finished == {sequence.id for sequence in arrivals}
    assert pool.used == 0


def test_decoding_goes_on_while_a_long_prompt_is_read() -> None:
    scheduler = Scheduler(BlockPool(100, BLOCK), max_batch_tokens=8, max_sequences=4)
    decoding, long = Sequence("decoding", [0]), Sequence("long", [0] * 50)
    scheduler.add(decoding)
    scheduler.schedule()
    decoding.tokens.append(0)
    scheduler.add(long)
    for _ in range(3):
        counts = {chunk.sequence.id: chunk.count for chunk in scheduler.schedule()}
        assert counts == {"decoding": 1, "long": 7}
        decoding.tokens.append(0)


def test_the_newest_gives_way_and_starts_again_from_its_tokens() -> None:
    scheduler = Scheduler(BlockPool(6, BLOCK), max_batch_tokens=32, max_sequences=4)
    old, new = Sequence("old", [0] * 11), Sequence("new", [0] * 10)
    scheduler.add(old)
    scheduler.add(new)
    scheduler.schedule()
    for sequence in (old, new):
        sequence.tokens += [0] * 3  # more than one, so that both need another block at once
    scheduled = [chunk.sequence for chunk in scheduler.schedule()]
    assert scheduled == [old]
    assert (new.computed, new.blocks) == (0, [])
    assert list(scheduler.waiting) == [new]
    assert scheduler.preemptions == 1
    scheduler.remove(old)
    (chunk,) = scheduler.schedule()
    assert (chunk.sequence, chunk.start, chunk.count) == (new, 0, 13)
