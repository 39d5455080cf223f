import mpmath
import numpy as np
import pytest
import torch

from pdesurrogate.solvers import INTEGRATORS
from pdesurrogate.solvers.integrators import phi_functions


def exact_phi(n, z):
    with mpmath.workdps(60):
        z = mpmath.mpf(z)
        tail = mpmath.exp(z) - sum(z**j / mpmath.factorial(j) for j in range(n))
        return float(tail / z**n) if z else float(1 / mpmath.factorial(n))


def test_phi_functions_are_exact_to_rounding_from_zero_to_stiff():
    z = -np.concatenate([[0.0], np.logspace(-12, 6, 181), [0.999999, 1.0, 1.000001]])
    for n, values in enumerate(phi_functions(torch.from_numpy(z)), start=1):
        expected = np.array([exact_phi(n, value) for value in z])
        np.testing.assert_allclose(values.numpy(), expected, rtol=3e-15)


def test_etdrk4_integrates_linear_decay_with_a_constant_source_exactly():
    linear = torch.tensor([0.0, -0.3, -50.0, -1e5], dtype=torch.float64)
    source = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.complex128)
    integrator = INTEGRATORS.build("etdrk4", linear, 0.5, torch.float64)
    u = torch.ones(1, 4, dtype=torch.complex128)
    for _ in range(4):
        u = integrator.step(u, lambda _: source)
    phi1 = phi_functions(2.0 * linear)[0]
    torch.testing.assert_close(u[0], (2.0 * linear).exp() + 2.0 * phi1 * source, rtol=1e-14, atol=0.0)


@pytest.mark.parametrize("name", INTEGRATORS.names())
@pytest.mark.usefixtures("as_users_run")
def test_an_integrator_converges_with_its_declared_order_on_stiff_coupled_modes(name):
    linear = torch.tensor([-0.5, -20.0], dtype=torch.float64)

    def solve(name, num_steps):
        integrator = INTEGRATORS.build(name, linear, 1.0 / num_steps, torch.float64)
        u = torch.tensor([[1.0 + 0.5j, 0.3 - 0.2j]], dtype=torch.complex128)
        for _ in range(num_steps):
            u = integrator.step(u, lambda u: 1j * u.square() + u.flip(1))
        return u

    order = INTEGRATORS.get(name).order
    reference = solve("etdrk4", 1280)
    steps = [80, 160, 320]
    errors = [(solve(name, n) - reference).abs().max().item() for n in steps]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.2)


def test_an_unknown_integrator_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="Did you mean 'etdrk4'"):
        INTEGRATORS.get("etdrk")


@pytest.mark.parametrize(
    "name", [n for n in INTEGRATORS.names() if getattr(INTEGRATORS.get(n), "diffusion_margin", 0.0)]
)
def test_waves_within_the_diffusion_margin_are_stable_at_every_step_and_those_beyond_are_not(name):
    decay = torch.logspace(-3, 8, 400, dtype=torch.float64)
    one_step = INTEGRATORS.build(name, -decay, 1.0, torch.float64).step

    def largest_growth(ratio):
        state = torch.ones(1, len(decay), dtype=torch.complex128)
        return float(one_step(state, lambda u: 1j * ratio * decay * u).abs().max())

    margin = INTEGRATORS.get(name).diffusion_margin
    assert all(largest_growth(sign * part * margin) <= 1 for sign in (-1, 1) for part in (0.1, 0.5, 0.9, 1.0))
    assert largest_growth(1.5 * margin) > 1.1
