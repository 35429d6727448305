"""What things cost, as ratios to the bare `greenlet.switch()` that is under all of them.

Absolute times say more about the machine than about the program, and on a shared machine they drift from one second to
the next. So every figure here is a ratio to what one switch from one greenlet to another, and nothing else, takes in
the same process at the same moment:

    raw  row  raw  row  raw  row  raw ...        each row is divided by the mean of its two neighbours

The median of the ratios is what is to be believed; the least of them says how much of the rest is noise. Garbage
collection is left on, as users have it; what exists when the measuring begins is frozen, so that a row does not pay for
the modules of another one. Making the kernel and taking it down is not measured, nor is reaching the point at which a
loop begins: each row starts its clock inside the kernel.

The clock is the CPU time of the OS thread where everything happens on one, so that what else the machine does counts
as little as possible. Where OS threads wait for each other it is the time of day.

What takes memory is measured in a process of its own, from its resident set.

    benchmarks/raw.py              the unit
    benchmarks/rows/*.py           one file per topic: what is measured
    benchmarks/peers/with_*.py     the twin programs: the same for other libraries
    benchmarks/rounds.py           how
"""
