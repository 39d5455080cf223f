"""What papers claim, trained and tested here: ``python -m benchmarks.claims claims=tfno scale=cpu``."""
