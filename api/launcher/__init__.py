"""The launcher: `nightshift up` runs every part of Nightshift on one machine, as child processes it looks after.

It starts `python -m …` and imports neither the worker nor a framework; it is the only code that knows "embedded".
"""
