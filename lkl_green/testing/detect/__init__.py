"""Detectors: what is wrong in a run, in words, one kind to a module.

Campaigns run at full speed and know verdicts only. The detectors look at runs that were recorded: at each failing one,
while its kernel still stands as it stopped, and at a few of those that passed.
"""
