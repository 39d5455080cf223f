"""Entry point of ``python -m benchmarks.claims``."""

from ..options import run_command
from .command import main

run_command(main)
