"""uvloop: the programs of asyncio on another event loop."""

from __future__ import annotations

import uvloop

from benchmarks.peers.with_asyncio import twins

TWINS = twins(uvloop.new_event_loop)
