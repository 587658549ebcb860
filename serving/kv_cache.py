"""Who owns which block of the KV cache, and which blocks still hold what another request may begin with. Bookkeeping
only: the tensors lie in paged_attention.py."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence as Items

Key = bytes


def block_key(before: Key, tokens: Items[int]) -> Key:
    """Names a full block by its tokens and all before them: `before` is the key of the block in front, b"" for none.

    A cryptographic hash, so that nobody can make a prompt that is answered from another's keys and values.
    """
    return hashlib.blake2b(before + b",".join(b"%d" % token for token in tokens), digest_size=16).digest()


class BlockPool:
    """A fixed number of blocks of `block_size` tokens; a sequence holds a list of block numbers.

    A block may be held by several sequences that begin alike. When the last lets go of a block with a key it is kept,
    to be found by its key, until another block is wanted and it is the one that was let go of longest ago.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        assert num_blocks > 0
        assert block_size > 0
        self.num_blocks, self.block_size = num_blocks, block_size
        self._free = list(range(num_blocks - 1, -1, -1))
        self._kept: OrderedDict[int, None] = OrderedDict()  # held by nobody, found by key; oldest first
        self._holders: dict[int, int] = {}
        self._block_of: dict[Key, int] = {}
        self._key_of: dict[int, Key] = {}

    @property
    def used(self) -> int:
        return len(self._holders)

    @property
    def free(self) -> int:
        """Blocks to be had, those that are kept included."""
        return len(self._free) + len(self._kept)

    def blocks_for(self, tokens: int) -> int:
        """How many blocks hold `tokens` tokens."""
        return -(-tokens // self.block_size)

    def grow(self, blocks: list[int], tokens: int) -> bool:
        """Append blocks until `blocks` hold `tokens` tokens; all or, when too few are free, none."""
        missing = self.blocks_for(tokens) - len(blocks)
        if missing > self.free:
            return False
        for _ in range(missing):
            block = self._free.pop() if self._free else self._evict()
            self._holders[block] = 1
            blocks.append(block)
        return True

    def release(self, blocks: list[int]) -> None:
        """Take back all of `blocks`, which is left empty."""
        # The last first: of a prompt's blocks the later ones are of no use without the earlier.
        for block in reversed(blocks):
            self._holders[block] -= 1  # KeyError: released twice
            if self._holders[block] == 0:
                del self._holders[block]
                if block in self._key_of:
                    self._kept[block] = None
                else:
                    self._free.append(block)
        blocks.clear()

    # -- blocks that are found by what they hold ---------------------------------------------------------------------

    def find(self, keys: Items[Key]) -> list[int]:
        """The blocks of the first keys that are known, from now on held once more."""
        found = []
        for key in keys:
            block = self._block_of.get(key)
            if block is None:
                break
            self._kept.pop(block, None)
            self._holders[block] = self._holders.get(block, 0) + 1
            found.append(block)
        return found

    def publish(self, block: int, key: Key) -> None:
        """From now on `block`, which is full and held, can be found; the first block of a key stays the one."""
        assert block in self._holders
        if key not in self._block_of and block not in self._key_of:
            self._block_of[key], self._key_of[block] = block, key

    def _evict(self) -> int:
        block, _ = self._kept.popitem(last=False)
        del self._block_of[self._key_of.pop(block)]
        return block
