"""Twin programs: what the rows do, done with another library in that library's usual way.

Each file has TWINS: functions `measure(n)` under the keys of the rows that make sense there. Each does as few
operations as its library needs, and starts its clock where the row does: when everybody has started.
"""
