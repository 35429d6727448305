"""Which event loop runs the caller."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anyio.lowlevel import current_token

if TYPE_CHECKING:
    from lkl_green.embed.backend import Backend


def backend_here() -> Backend:
    """The loop that runs the caller. Raises anyio.NoEventLoopError outside of one."""
    token = current_token().native_token
    if isinstance(token, asyncio.AbstractEventLoop):
        from lkl_green.embed.on_asyncio import AsyncioBackend

        return AsyncioBackend(token)
    from lkl_green.embed.on_trio import TrioBackend

    return TrioBackend()
