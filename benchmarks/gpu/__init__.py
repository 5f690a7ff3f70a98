"""What `bench_gpu` measures: each family on random data, beside plain networks of both frameworks."""
