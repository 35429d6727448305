"""uvloop: the programs of asyncio on another event loop."""

from __future__ import annotations

import uvloop

from benchmarks.peers.with_asyncio import twins
from benchmarks.rows.echo import of_peer

TWINS = twins(uvloop.new_event_loop) | of_peer("uvloop streams")
