"""Schedules per second: two threads and a locked counter, here and under the tools that do the like with OS threads.

    python -m benchmarks.exploring

The program is the smallest that anybody would explore: each of two threads takes a lock, adds one and gives the lock
back; the test starts both, joins both and looks at the sum. It is written for each contender in that tool's own way.

    contenders/            the programs; a contender's `run(n)` runs n schedules
    contenders/serve.py    a contender in a process of its own, which runs a batch whenever it is asked to
    compare.py             all of them in turns, so that all meet the same moments of the machine
    __main__.py            the table

Batches are small and the best one counts: what else the machine does can only make a batch slower. Two clocks are
shown. CPU time is that of all threads of the process, and leaves out waiting for the machine; for tools with OS threads
it also leaves out the time that a thread takes to wake up, so it is the kinder one to them. Ratios are taken from it.
"""
