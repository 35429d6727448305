"""How many schedules it takes to find the first bug: programs, published figures, campaigns.

programs/*.py     one family of programs per file
published.py      what other tools need for them, from their papers' data
trials.py         campaigns with many seeds
report.py         the table
"""
