"""Gradient boosting on a table, as a program for Nightshift."""
