"""Independent pieces of a reproduction, several at work side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

J = TypeVar("J")
R = TypeVar("R")


def side_by_side(
    work: Callable[[J], R], jobs: Sequence[J], processes: int
) -> Iterator[tuple[J, R]]:
    """Each job with its result, as they end; one process works here, in order.

    `work` and the jobs must be picklable.
    """
    if processes == 1:
        for job in jobs:
            yield job, work(job)
        return
    # A forked child would inherit torch's threads in an unknown state.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        pending = {pool.submit(work, job): job for job in jobs}
        for future in as_completed(pending):
            yield pending[future], future.result()
