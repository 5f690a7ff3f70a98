"""The listings of the source documents as plain Keras scripts, for `benchmarks.bench_listings`.

Each is run as `python -m benchmarks.listings.NAME DATA.npz OUT.npz SEED …` and imports nothing of Nightshift.
"""
