"""Flower, started with safe settings and told what each Celery task is. Our own pages are added in `handlers.py`."""
