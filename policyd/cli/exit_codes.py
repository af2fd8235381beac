"""What `policyctl` tells its caller when it ends."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """`policyctl`'s exit codes; scripts rely on them."""

    DONE = 0
    """Done, and nothing wrong."""
    NO = 1
    """The answer is no: a test failed, there are findings, the request is denied."""
    USAGE = 2
    """Wrong usage, or input that can't be read."""
    UNREACHABLE = 3
    """What was asked can't be reached."""
    FORBIDDEN = 4
    """Not allowed."""
    NOT_FOUND = 5
    """What was named isn't there."""
