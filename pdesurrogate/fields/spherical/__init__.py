"""Spherical harmonic analysis: grids, quadrature, transforms of scalars and velocities."""
