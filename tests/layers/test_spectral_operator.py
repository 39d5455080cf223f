"""Operators on kept modes with mixings of one's own, in periodic boxes and between walls."""

import math

import pytest
import torch
from jaxtyping import TypeCheckError

from pdesurrogate.fields.fourier import DFTTransform, ReferenceTransform, kept_shape
from pdesurrogate.layers import (
    mode_matmul,
    mode_multiply,
    spectral_analysis,
    spectral_backends,
    spectral_conv,
    spectral_operator,
    spectral_synthesis,
)
from pdesurrogate.layers.precision import active_policy

P, W = "periodic", "wall"
BACKENDS = ("dft", "fft", "reference")
BOXES = [  # grid, num_modes, boundaries: even, odd and unequal sizes, few modes and all of them
    ((16,), (7,), (P,)),
    ((15,), (15,), (W,)),
    ((12, 9), (5, 9), (P, P)),
    ((12, 9), (5, 6), (W, W)),
    ((9, 12), (9, 12), (W, P)),
    ((10, 7), (6, 7), (P, W)),
    ((6, 5, 8), (4, 5, 3), (W, P, P)),
    ((6, 5, 8), (3, 4, 8), (P, W, W)),
]
SMALL_BOXES = [((4, 5), (3, 4), (P, P)), ((4, 5), (3, 4), (W, W)), ((4, 3), (3, 3), (W, P))]


def field(grid, channels=3, batch=2, dtype=torch.float64):
    return torch.randn(batch, grid[-1], *grid[:-1], channels, dtype=dtype)


def num_kept(num_modes, boundaries):
    return math.prod(kept_shape(num_modes, boundaries))


def planes_in(boundaries):
    return 2 if P in boundaries else 1


def weight(*shape):
    return torch.randn(shape, dtype=torch.float64)


class LowRank:
    """``û → (f(k) ⊙ (û A)) B``: a canonical decomposition of the mixing, its factors applied one by one."""

    def __init__(self, inward, factors, outward):
        self.factors = inward, factors, outward

    def __call__(self, modes):
        inward, factors, outward = self.factors
        return mode_matmul(mode_multiply(mode_matmul(modes, inward), factors), outward)

    on_planes = __call__


class Cored(LowRank):
    """``û → ((û A) G(k)) B``: a Tucker decomposition over the channels, one small core a mode."""

    def __call__(self, modes):
        inward, core, outward = self.factors
        return mode_matmul(mode_matmul(mode_matmul(modes, inward), core), outward)

    on_planes = __call__


def dense(inward, middle, outward):
    """The weight ``(mode, in, out, plane)`` of a product of factors."""

    def numbers(x):
        return torch.view_as_complex(x.contiguous()) if x.shape[-1] == 2 else x[..., 0]

    middle = numbers(middle)
    middle = torch.diag_embed(middle) if middle.ndim == 2 else middle
    full = torch.einsum("ir,krs,so->kio", numbers(inward), middle, numbers(outward))
    return torch.view_as_real(full) if full.is_complex() else full[..., None]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("grid", "num_modes", "boundaries"), BOXES)
@pytest.mark.parametrize("mixing", [LowRank, Cored])
def test_factors_applied_one_by_one_equal_the_dense_mixing_in_value_and_gradient(
    mixing, grid, num_modes, boundaries, backend
):
    planes, rank = planes_in(boundaries), 2
    middle = [rank] if mixing is LowRank else [rank, rank]
    factors = weight(3, rank, planes), weight(num_kept(num_modes, boundaries), *middle, planes)
    inputs = [t.requires_grad_() for t in (field(grid), *factors, weight(rank, 4, planes))]
    u, *factors = inputs
    box = {"boundaries": boundaries, "backend": backend}
    found = spectral_operator(u, mixing(*factors), num_modes, **box)
    expected = spectral_conv(u, dense(*factors), num_modes, **box)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * float(expected.detach().abs().max()))
    direction = torch.randn_like(expected)
    theirs, ours = (torch.autograd.grad(v, inputs, direction) for v in (expected, found))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12 * float(other.abs().max()))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("grid", "num_modes", "boundaries"), BOXES)
def test_it_is_analysis_mixing_and_synthesis_by_the_explicit_reference(grid, num_modes, boundaries, backend):
    u, base = field(grid), field(grid, channels=2)
    matrices = weight(num_kept(num_modes, boundaries), 3, 2, planes_in(boundaries))
    reference = ReferenceTransform(grid, num_modes, torch.float64, "cpu", boundaries)
    modes = reference.analyse(u)
    numbers = torch.view_as_complex(matrices) if modes.is_complex() else matrices[..., 0]
    expected = base + reference.synthesise(torch.einsum("kbi,kio->kbo", modes, numbers))
    box = {"boundaries": boundaries, "backend": backend}
    tolerance = 1e-12 * float(expected.abs().max())
    found = spectral_operator(u, lambda m: mode_matmul(m, matrices), num_modes, base=base, **box)
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    u_hat = spectral_analysis(u, num_modes, **box)
    torch.testing.assert_close(u_hat, modes, rtol=0, atol=1e-12)
    by_parts = spectral_synthesis(mode_matmul(u_hat, matrices), num_modes, grid, base=base, **box)
    torch.testing.assert_close(by_parts, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("grid", "num_modes", "boundaries"), BOXES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_adjoint_is_the_operator_with_the_conjugate_transposed_mixing(
    grid, num_modes, boundaries, backend
):
    u, v = field(grid, channels=3).requires_grad_(), field(grid, channels=2)
    matrices = weight(num_kept(num_modes, boundaries), 3, 2, planes_in(boundaries))
    conjugate = torch.tensor([1.0, -1.0], dtype=torch.float64)[: planes_in(boundaries)]
    box = {"boundaries": boundaries, "backend": backend}
    image = spectral_operator(u, lambda m: mode_matmul(m, matrices), num_modes, **box)
    back = spectral_operator(
        v, lambda m: mode_matmul(m, matrices.transpose(1, 2) * conjugate), num_modes, **box
    )
    scale = float((image.norm() * v.norm()).detach())
    assert abs(float(((image * v).sum() - (u * back).sum()).detach())) < 1e-12 * scale
    (gradient,) = torch.autograd.grad(image, u, v)
    torch.testing.assert_close(gradient, back, rtol=0, atol=1e-12 * float(back.abs().max()))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("grid", "num_modes", "boundaries"), SMALL_BOXES)
def test_gradients_of_first_and_second_order_reach_field_weights_and_base(
    grid, num_modes, boundaries, backend
):
    planes = planes_in(boundaries)
    factors = weight(2, 1, planes), weight(num_kept(num_modes, boundaries), 1, planes), weight(1, 2, planes)
    inputs = [t.requires_grad_() for t in (field(grid, 2, batch=1), *factors, field((5, 6), 2, batch=1))]

    def operator(u, inward, middle, outward, base):
        mixing = LowRank(inward, middle, outward)
        return spectral_operator(
            u, mixing, num_modes, boundaries=boundaries, base=base, out_grid=(5, 6), backend=backend
        )

    assert torch.autograd.gradcheck(operator, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(operator, inputs, fast_mode=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("grid", "num_modes", "boundaries"), BOXES)
def test_the_identity_leaves_kept_modes_and_removes_the_others(grid, num_modes, boundaries, backend):
    box = {"boundaries": boundaries, "backend": backend}
    u = field(grid)
    once = spectral_operator(u, lambda modes: modes, num_modes, **box)
    twice = spectral_operator(once, lambda modes: modes, num_modes, **box)
    torch.testing.assert_close(twice, once, rtol=0, atol=1e-13)
    # What was removed is orthogonal to what stays, and has no kept modes.
    assert abs(float(((u - once) * once).sum())) < 1e-12 * float(u.square().sum())
    assert float(spectral_analysis(u - once, num_modes, **box).abs().max()) < 1e-13


def test_a_nonlinear_mixing_has_exact_derivatives():
    u = field((6, 5), 2, batch=1).requires_grad_()

    def operator(u):
        return spectral_operator(u, lambda modes: modes * (1 + modes.abs().square()), (4, 5))

    assert torch.autograd.gradcheck(operator, (u,))


def test_between_walls_an_operator_keeps_mirror_symmetry():
    """Cosines are even about both walls, so a diagonal operator and a reflection of the field commute."""
    u, factors = field((12, 9)), weight(5 * 6, 3, 1)
    scale = torch.arange(30).view(6, 5)
    even_only = factors * ((scale % 5 % 2 == 0) & (scale // 5 % 2 == 0)).view(30, 1, 1)

    def operator(u):
        return spectral_operator(u, lambda m: mode_multiply(m, even_only), (5, 6), boundaries=(W, W))

    v = operator(u)
    torch.testing.assert_close(v.flip(1), v, rtol=0, atol=1e-13)
    torch.testing.assert_close(v.flip(2), v, rtol=0, atol=1e-13)
    torch.testing.assert_close(operator(u.flip(1, 2)), v, rtol=0, atol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
def test_under_autocast_the_operator_still_runs_in_float32(backend):
    u, factors = field((16, 12), dtype=torch.float32).requires_grad_(), weight(8 * 5, 3, 2).float()

    def outcome():
        v = spectral_operator(u, lambda m: mode_multiply(m, factors), (8, 8), backend=backend)
        return v, *torch.autograd.grad(v.square().sum(), u)

    expected = outcome()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = outcome()
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("boundaries", [(P, P), (W, W), (W, P)])
def test_transforms_of_functions_see_ordinary_operations(boundaries):
    u, planes = field((6, 5), 2, batch=1), planes_in(boundaries)
    matrices = weight(num_kept((4, 3), boundaries), 2, 2, planes)
    tangent = torch.randn_like(u)

    def operator(u):
        return spectral_operator(u, lambda m: mode_matmul(m, matrices), (4, 3), boundaries=boundaries)

    _, along = torch.func.jvp(operator, (u,), (tangent,))
    torch.testing.assert_close(along, operator(tangent), rtol=0, atol=1e-12)
    stacked = torch.func.vmap(operator)(torch.stack([u, tangent]))
    torch.testing.assert_close(stacked[1], along, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("boundaries", "mixing", "error", "sentence"),
    [
        ((W, W), lambda m: torch.complex(m, m), TypeError, "a complex spectrum came for a box .* are real"),
        ((P, P), lambda m: m.real, TypeError, "a real spectrum came for a box whose spectra are complex"),
        ((P, P), lambda m: m[1:], ValueError, r"\(11, 2, 3\) came where .* has 12 modes.*\(4, 4\) keep"),
        ((P, P), lambda m: m[:, :1], ValueError, "12 modes.* and 2 samples"),
    ],
)
def test_a_mixing_that_returns_another_kind_of_spectrum_is_refused(boundaries, mixing, error, sentence):
    with pytest.raises(error, match=sentence):
        spectral_operator(field((8, 8)), mixing, (4, 4), boundaries=boundaries)


@pytest.mark.usefixtures("as_users_run")
def test_a_synthesis_of_too_few_modes_or_on_too_coarse_a_grid_is_refused():
    modes = torch.zeros(12, 1, 2, dtype=torch.complex64)
    with pytest.raises(ValueError, match="has 20 modes, which is what num_modes"):
        spectral_synthesis(modes, (4, 8), (16, 16))
    with pytest.raises(ValueError, match="num_modes of at most 3 on this axis"):
        spectral_synthesis(modes, (4, 4), (3, 16))
    with pytest.raises(TypeError, match="a complex spectrum came for a box whose spectra are real"):
        spectral_synthesis(modes, (4, 4), (8, 8), boundaries=(W, W))


@pytest.mark.usefixtures("as_users_run")
def test_boundaries_for_another_number_of_axes_are_refused():
    with pytest.raises(ValueError, match="must have one entry per axis"):
        spectral_operator(field((8, 8)), lambda m: m, (4, 4), boundaries=(W, P, P))


def test_arguments_that_are_no_fields_or_spectra_break_the_annotation():
    with pytest.raises(TypeCheckError):
        spectral_operator(field((8, 8)).to(torch.complex128), lambda m: m, (4, 4))
    with pytest.raises(TypeCheckError):
        spectral_operator(field((8, 8)), lambda m: m, (4, 4), base=field((8, 8), batch=3))
    with pytest.raises(TypeCheckError):
        spectral_synthesis(torch.zeros(12, 2), (4, 4), (8, 8))


@pytest.mark.parametrize("policy", ["full", "tf32", "bf16"])
def test_backward_passes_of_any_order_run_under_the_policy_of_the_forward_pass(monkeypatch, policy):
    seen = {"forward": [], "backward": []}

    class Spy(DFTTransform):
        def analyse(self, u, out=None):
            seen["forward"].append(active_policy())
            return super().analyse(u, out)

        def analyse_adjoint(self, u_hat, accumulate=None):
            seen["backward"].append(active_policy())
            return super().analyse_adjoint(u_hat, accumulate)

    monkeypatch.setitem(spectral_backends.BACKENDS, "spy", spectral_backends.Backend(Spy))
    u = torch.randn(2, 8, 8, 3, requires_grad=True)
    weight = torch.randn(4 * 5, 3, 3, 2, requires_grad=True)
    v = spectral_operator(
        u, lambda modes: mode_matmul(modes, weight), (4, 8), backend="spy", precision=policy
    )
    (gradient,) = torch.autograd.grad(v.square().sum(), u, create_graph=True)
    gradient.square().sum().backward()
    assert active_policy() == "full"
    assert len(seen["backward"]) >= 2
    assert set(seen["forward"]) | set(seen["backward"]) == {policy}
