"""The probe for open cancel scopes reads insides of anyio, trio and asyncio: they are there, or it is blind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from lkl_green.embed import await_, scopes
from lkl_green.embed.current_loop import backend_here
from lkl_green.errors import ScopeAcrossSwitch
from lkl_green.linux import msleep

if TYPE_CHECKING:
    from tests.embed.conftest import Kernels


@pytest.mark.anyio
async def test_the_probe_sees_scopes_come_and_go() -> None:
    """It fails here, and nowhere else, when what it reads has another name in a new version."""
    probe = backend_here().scope_probe()
    assert probe.sees()
    outside = probe.look()
    with anyio.CancelScope():
        inside = probe.look()
        with anyio.CancelScope():
            assert probe.look() not in (inside, outside)
        assert probe.look() is inside
    assert probe.look() is outside


@pytest.mark.anyio
async def test_the_second_look_needs_the_holder_only() -> None:
    probe = backend_here().scope_probe()
    with anyio.CancelScope():
        holder = probe.holder()
        before = probe.innermost(holder)
        with anyio.CancelScope():
            assert probe.innermost(holder) is not before
        assert probe.innermost(holder) is before


@pytest.mark.anyio
async def test_tasks_do_not_see_the_scopes_of_others() -> None:
    probe = backend_here().scope_probe()
    seen: dict[str, list[Any]] = {"one": [], "other": []}

    async def look(name: str) -> None:
        with anyio.CancelScope():
            for _ in range(2):
                seen[name].append(probe.look())
                await anyio.sleep(0)

    async with anyio.create_task_group() as group:
        for name in seen:
            group.start_soon(look, name)
    for first, second in seen.values():
        assert first is second
    assert seen["one"][0] is not seen["other"][0]


@pytest.mark.asyncio
async def test_a_callback_of_asyncio_has_no_scopes() -> None:
    probe = backend_here().scope_probe()
    looked: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: looked.set_result(probe.look()))
    assert await looked is None


@pytest.mark.anyio
async def test_a_scope_left_open_in_a_task_that_has_never_had_one(kernels: Kernels) -> None:
    """The await task is a bare task; a kernel thread that it wakes opens a scope in it."""

    async def nothing() -> None:
        pass

    def careless() -> None:
        await_(nothing())
        with anyio.move_on_after(10) as scope:
            msleep(1)
        assert scope

    with pytest.raises(ScopeAcrossSwitch, match="careless"):
        async with kernels.running() as k:
            await k.call(careless)


@pytest.mark.anyio
async def test_a_probe_that_does_not_see_is_replaced_by_one_that_is_blind(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a version of anyio or trio that keeps its scopes elsewhere: all works, and nothing is detected."""
    monkeypatch.setattr(scopes, "attrgetter", lambda _name: lambda _holder: None)
    probe = backend_here().scope_probe()
    assert not probe.sees()
    assert probe.look() is None
    async with kernels.running() as k:
        assert await k.call(lambda: "called") == "called"


@pytest.mark.asyncio
async def test_a_probe_without_anything_to_read_is_blind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("anyio._backends._asyncio._task_states")
    probe = scopes.of_asyncio(asyncio.get_running_loop())
    monkeypatch.undo()
    assert not probe.sees()
    with anyio.CancelScope():
        assert probe.look() is None


@pytest.mark.asyncio
async def test_without_the_dict_of_current_tasks_asyncio_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scopes, "FunctionType", ())
    assert scopes.of_asyncio(asyncio.get_running_loop()).sees()
