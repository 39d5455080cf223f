"""Measurements: every committed number has its machine, versions and command beside it."""
