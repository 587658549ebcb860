"""Who owns which block of the KV cache. Bookkeeping only: the tensors lie in paged_attention.py."""


class BlockPool:
    """A fixed number of blocks of `block_size` tokens; a sequence holds a list of block numbers."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        assert num_blocks > 0
        assert block_size > 0
        self.num_blocks, self.block_size = num_blocks, block_size
        self._free = list(range(num_blocks - 1, -1, -1))
        self._owned: set[int] = set()

    @property
    def used(self) -> int:
        return len(self._owned)

    @property
    def free(self) -> int:
        return len(self._free)

    def blocks_for(self, tokens: int) -> int:
        """How many blocks hold `tokens` tokens."""
        return -(-tokens // self.block_size)

    def grow(self, blocks: list[int], tokens: int) -> bool:
        """Append blocks until `blocks` hold `tokens` tokens; all or, when too few are free, none."""
        missing = self.blocks_for(tokens) - len(blocks)
        if missing > len(self._free):
            return False
        for _ in range(missing):
            block = self._free.pop()
            self._owned.add(block)
            blocks.append(block)
        return True

    def release(self, blocks: list[int]) -> None:
        """Take back all of `blocks`, which is left empty."""
        for block in blocks:
            self._owned.remove(block)  # KeyError: released twice
            self._free.append(block)
        blocks.clear()
