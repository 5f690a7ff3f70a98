"""The launcher: `nightshift up` runs every part of Nightshift on one machine, as supervised child processes.

It starts `python -m …` and imports neither the worker nor a framework. No other code depends on the embedded mode.
"""
