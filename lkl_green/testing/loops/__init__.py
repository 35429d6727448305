"""Event loops of asyncio under exploration: which of the callbacks that are ready is called next.

handles      what a callback is: a task's step, a timer, or neither
loop_actor   what recordings know of event loops
actors       the actors that stand for tasks, timers and other callbacks
ready        the queue of ready callbacks, whose order is decided
awaiting     where tasks wait, for reports
loops        the loops of one campaign
"""
