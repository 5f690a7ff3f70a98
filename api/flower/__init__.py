"""Start Flower with safe settings, our pages (`handlers.py`), and SQL's view of each Celery task."""
