"""How good a surrogate is: rollouts on many grids against the truth there, beside its rivals, in one report."""
