"""The program, once for each contender: `CONTENDERS` maps names to functions `run(n)`, which run n schedules.

A module is imported only by a process that runs one of its contenders; `serve.py` says which has which.
"""
