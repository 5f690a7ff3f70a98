"""The same three jobs in each task queue that `bench_queues` compares."""
