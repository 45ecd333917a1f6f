"""How large the database of the other machine may be, whatever that machine says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd import files
from gymdbd.errors import TooLargeError

if TYPE_CHECKING:
    from gymdbd.config.kinds import PullConfig

# So many times larger than the replica it may be by the next pull, and so large in any case.
_TIMES = 64
_ALWAYS_BYTES = 16 * 1024 * 1024


def require(job: PullConfig, size: int) -> None:
    """Raise TooLargeError if a database of `size` bytes is larger than `max_size` of the job.

    Without `max_size`, it may not be many times larger than the last state; the first pull has no
    limit.
    """
    what = f"{job.remote_database} on {job.host} has {files.to_size(size)}"
    if job.max_size is not None:
        if size > job.max_size:
            raise TooLargeError(
                f"{what}, and max_size is {files.to_size(job.max_size)}",
                hint="nothing was fetched: if it is to be that large, raise max_size: of the job",
            )
        return
    last = job.replica.stat().st_size if files.is_there(job.replica) else None
    if last is not None and size > max(_TIMES * last, _ALWAYS_BYTES):
        raise TooLargeError(
            f"{what}, more than {_TIMES} times the {files.to_size(last)} of the last state",
            hint="nothing was fetched: if it is to be that large, set max_size: of the job, to "
            "what it may have at most",
        )
