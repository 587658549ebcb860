"""What the C library does with memory that tensors give back."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of the GNU C library


def keep_freed_memory() -> None:
    """Have freed memory used again by this process instead of returned to the system; only with the GNU C library.

    By default every tensor of more than 32 MiB is mapped anew and its pages faulted in one by one, which is a tenth
    to a fifth of a training step over long rows. The price is fragmentation: a peak that is higher by up to a fifth.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
