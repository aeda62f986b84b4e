"""Threads for what may block for as long as a deployment may take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def apart(function: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
    """Call it in a thread of its own.

    In the loop's own pool, enough containers that do not get ready would hold every thread, also those that stop them.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="cpr-emulator-apart")
    called = asyncio.get_running_loop().run_in_executor(thread, function, *arguments)
    thread.shutdown(wait=False)
    return called
