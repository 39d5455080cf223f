import sys
from pathlib import Path

# `benchmarks` is no part of the installed package; its commands are run from the root of the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
