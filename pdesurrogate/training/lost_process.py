"""A process of several that dies or hangs: the others end in bounded time, with a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.distributed import DistError


@contextmanager
def explain_lost_process(go_on: str) -> Iterator[None]:
    """Turn a failed exchange between processes into advice.

    Args:
        go_on: the command that goes on with the run.

    Raises:
        ConnectionError: if another process died or did not answer in time.
    """
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, DistError) or "gloo" in str(error)):
            raise
        cause = str(error).splitlines()[0].rsplit("] ", 1)[-1].rstrip(". ")
        raise ConnectionError(
            "another process of this training has died or did not answer within trainer.timeout_minutes "
            f"({cause}). Its own messages say why. Go on from the last checkpoint with: {go_on}"
        ) from error
