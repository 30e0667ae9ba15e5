"""One kind of work in a thread of its own: made ahead of its use, or put away behind it."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
_END = object()


def ahead(items: Generator[T, None, None], name: str, most: int = 1) -> Generator[T, None, None]:
    """`items` in order, made in a thread called `name` while those before are used, at most `most` ahead.

    What `items` raises is raised in its place. Closing waits for the item in the making, drops it and closes `items`.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix=name)
    try:
        coming: deque[Future[T]] = deque(pool.submit(_next, items) for _ in range(most))
        while (item := coming.popleft().result()) is not _END:
            coming.append(pool.submit(_next, items))
            yield item
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        items.close()


@contextmanager
def behind(work: Callable[[T], None], name: str) -> Iterator[Callable[[T], None]]:
    """A function that has `work` done in a thread called `name`, call after call, and is at most one behind.

    What a call raises, the next one raises without being done, or else the end of the block. An error inside the block
    waits for the call that is under way: nothing is done behind the back of what follows.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix=name)
    last: list[Future[None]] = []

    def submit(item: T) -> None:
        if last:
            last.pop().result()
        last.append(pool.submit(work, item))

    try:
        yield submit
        if last:
            last.pop().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _next(items: Iterator[T]) -> T:
    return next(items, _END)  # type: ignore[return-value]  # compared by identity before anything else
