"""Laws of the block pool and the scheduler: no block is lost or owned twice, and every sequence ends."""

from dataclasses import dataclass
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.kv_cache import BlockPool, block_key
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


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 3)), max_size=60))
def test_what_is_found_by_its_key_holds_what_was_published(steps: list[tuple[int, int, int]]) -> None:
    """Owners take blocks, write one of a few contents into each, publish and let go; a model of the contents is kept.
    Whatever `find` returns holds that content still."""
    pool = BlockPool(8, BLOCK)
    owners: list[list[int]] = [[] for _ in range(5)]
    content: dict[int, bytes] = {}
    for owner, blocks, text in steps:
        key = block_key(b"", [text])
        if not owners[owner]:
            owners[owner] = pool.find([key])
            assert all(content[block] == key for block in owners[owner])
            fresh = len(owners[owner])
            if pool.grow(owners[owner], (fresh + blocks) * BLOCK):
                for block in owners[owner][fresh:]:
                    content[block] = key
                    pool.publish(block, key)
        else:
            pool.release(owners[owner])
        assert pool.used == len({block for held in owners for block in held})
        assert pool.used + pool.free == 8


def test_keys_tell_prompts_apart() -> None:
    keys = {block_key(before, tokens) for before in (b"", b"x") for tokens in ([1, 23], [12, 3], [1, 2, 3], [123])}
    assert len(keys) == 8


def test_the_block_let_go_of_longest_ago_is_given_away_first() -> None:
    pool, first, second = BlockPool(2, BLOCK), [], []
    for blocks, key in ((first, b"1"), (second, b"2")):
        pool.grow(blocks, BLOCK)
        pool.publish(blocks[0], key)
    pool.release(first)
    pool.release(second)
    taken: list[int] = []
    assert pool.grow(taken, BLOCK)
    assert pool.find([b"1"]) == []
    assert len(pool.find([b"2"])) == 1


@dataclass(frozen=True)
class Plan:
    """One request of a workload."""

    arrival: int
    prompt: int
    answer: int
    cancelled: bool
    priority: int
    alphabet: int  # of how many different tokens the prompt is made: with 1, all prompts begin alike


@st.composite
def workloads(draw: st.DrawFn) -> list[Plan]:
    plans = []
    for _ in range(draw(st.integers(1, 12))):
        prompt = draw(st.integers(1, CONTEXT - 1))
        answer = draw(st.integers(1, CONTEXT - prompt))
        arrival, cancelled = draw(st.integers(0, 10)), draw(st.booleans())
        plans.append(Plan(arrival, prompt, answer, cancelled, draw(st.integers(0, 2)), draw(st.integers(1, 2))))
    return plans


@settings(max_examples=300)
@given(workloads(), st.integers(6, 20), st.integers(1, 5), st.integers(0, 12), st.randoms(use_true_random=False))
def test_every_sequence_ends_and_gives_back_its_blocks(
    workload: list[Plan], budget: int, max_sequences: int, extra_blocks: int, rng: Random
) -> None:
    """With a cache that really holds tokens: what a sequence begins with is what its own tokens would have written."""
    pool = BlockPool(CONTEXT // BLOCK + extra_blocks, BLOCK)
    scheduler = Scheduler(pool, budget, max_sequences)
    plans = {
        Sequence(str(i), [rng.randrange(plan.alphabet) for _ in range(plan.prompt)], priority=plan.priority): plan
        for i, plan in enumerate(workload)
    }
    cache: dict[tuple[int, int], list[int]] = {}  # (block, place in it) -> all tokens up to this one
    generated: dict[str, int] = {}
    finished: set[str] = set()
    for step in range(2_000):
        for sequence, plan in plans.items():
            if plan.arrival == step:
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
        assert pool.used == len({block for sequence in plans for block in sequence.blocks})
        for chunk in chunks:
            sequence = chunk.sequence
            assert sequence in scheduler.running, "a preempted sequence must not run"
            for at in range(chunk.start, chunk.start + chunk.count):
                cache[sequence.blocks[at // BLOCK], at % BLOCK] = sequence.tokens[: at + 1]
        for chunk in chunks:
            sequence = chunk.sequence
            for at in range(chunk.start + chunk.count):
                assert cache[sequence.blocks[at // BLOCK], at % BLOCK] == sequence.tokens[: at + 1]
        scheduler.commit(chunks)
        for chunk in chunks:
            if not chunk.samples:
                continue
            sequence, plan = chunk.sequence, plans[chunk.sequence]
            sequence.tokens.append(rng.randrange(plan.alphabet))
            generated[sequence.id] = generated.get(sequence.id, 0) + 1
            if generated[sequence.id] == (max(1, plan.answer // 2) if plan.cancelled else plan.answer):
                scheduler.remove(sequence)
                finished.add(sequence.id)
    assert finished == {sequence.id for sequence in plans}
    assert pool.used == 0


def test_a_prompt_begins_with_the_blocks_of_one_that_began_alike() -> None:
    scheduler = Scheduler(BlockPool(20, BLOCK), max_batch_tokens=32, max_sequences=4)
    first, alike, whole = Sequence("1", [7] * 10), Sequence("2", [7] * 9 + [8] * 5), Sequence("3", [7] * 8)
    scheduler.add(first)
    scheduler.commit(scheduler.schedule())
    scheduler.remove(first)
    for sequence, start in ((alike, 8), (whole, 4)):  # of the last, its last token must be run
        scheduler.add(sequence)
        (chunk,) = scheduler.schedule()
        assert (chunk.sequence, chunk.start) == (sequence, start)
        scheduler.commit([chunk])
        scheduler.remove(sequence)
    anew = Sequence("4", [7] * 10, reuse=False)
    scheduler.add(anew)
    assert [chunk.start for chunk in scheduler.schedule()] == [0]
    assert scheduler.reused_tokens == 12


def test_better_priority_goes_first_and_makes_others_give_way() -> None:
    scheduler = Scheduler(BlockPool(20, BLOCK), max_batch_tokens=32, max_sequences=2)
    usual = [Sequence(f"usual {n}", [0] * 5) for n in range(3)]
    for sequence in usual:
        scheduler.add(sequence)
    scheduler.commit(scheduler.schedule())
    urgent = Sequence("urgent", [1] * 5, priority=-1)
    scheduler.add(urgent)
    for sequence in usual[:2]:
        sequence.tokens.append(0)
    assert [chunk.sequence for chunk in scheduler.schedule()] == [usual[0], urgent]
    assert scheduler.waiting == [usual[1], usual[2]], "the one that gave way comes before those that never ran"


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
    assert scheduler.waiting == [new]
    assert scheduler.preemptions == 1
    scheduler.remove(old)
    (chunk,) = scheduler.schedule()
    assert (chunk.sequence, chunk.start, chunk.count) == (new, 0, 13)
