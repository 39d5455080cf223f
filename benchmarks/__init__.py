"""Measurements of pdesurrogate against its peers: ``python -m benchmarks.step model=fno grid=64``.

Contestants run interleaved in one process, on the same weights and inputs, after a check that they compute
the same thing. Results are JSON files in ``benchmarks/results``; ``python -m benchmarks.tables`` turns them
into ``docs/benchmarks.md``.
"""
