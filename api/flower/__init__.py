"""Flower with safe settings, our pages (`handlers.py`), and task states from SQL (`reconcile.py`)."""
