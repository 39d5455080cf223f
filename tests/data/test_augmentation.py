"""Augmentation: transformed windows are solutions, drawn alike on any number of ranks and after any interruption."""

from __future__ import annotations

import pytest
import torch

from pdesurrogate.data.augmentation import Augmentation
from pdesurrogate.data.datamodule import TrajectoryDataModule
from pdesurrogate.data.trajectories import DataSet
from pdesurrogate.fields import Axis, Batch, DataSpec, Normaliser
from pdesurrogate.fields.point_group import channel_action, point_group
from pdesurrogate.solvers.navier_stokes import NavierStokes2D
from pdesurrogate.solvers.shallow_water import PlanarShallowWater


def solved(equation: NavierStokes2D | PlanarShallowWater, state: torch.Tensor, time: float) -> torch.Tensor:
    *_, end = equation.frames(state, [time])
    return end


def window(history: torch.Tensor, future: torch.Tensor) -> Batch:
    number = torch.arange(len(history))
    return Batch(history[:, None], future[:, None], torch.zeros(len(history), 0), number, 2 * number)


def low_waves(batch: int, channels: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    spectrum = torch.fft.rfft2(
        torch.randn(batch, channels, size, size, generator=generator, dtype=torch.float64)
    )
    spectrum[..., 4:-3, :] = 0
    spectrum[..., 4:] = 0
    spectrum[..., 0, 0] = 0
    return torch.fft.irfft2(spectrum, s=(size, size))


@pytest.mark.parametrize(
    ("equation", "group", "shift"),
    [
        (NavierStokes2D(viscosity=1e-2, dt=0.01), "p4m", True),
        (NavierStokes2D(viscosity=1e-2, dt=0.01, forcing="symmetric"), "p4", False),
        (PlanarShallowWater(dt=0.01), "p4m", True),
        (PlanarShallowWater(dt=0.01, boundaries=("wall", "periodic")), "pmm", True),
        (PlanarShallowWater(dt=0.01, boundaries=("open", "open")), "p4m", False),
    ],
    ids=["decaying flow", "NS-Sym", "water on a torus", "water in a channel", "open water"],
)
def test_augmented_windows_are_solutions(
    equation: NavierStokes2D | PlanarShallowWater, group: str, shift: bool
) -> None:
    spec = DataSpec(equation.fields, equation.axes, 0.1)
    state = low_waves(12, spec.num_channels, 16)
    if spec.num_channels > 1:
        state = 0.1 * state
        state[:, 0] += 2.0
    augmentation = Augmentation(spec, (16, 16), group=group, shift=shift, seed=3)
    batch = augmentation(window(state, solved(equation, state, 0.05)), epoch=1)
    again = solved(equation, batch.history[:, 0], 0.05)
    assert (again - batch.future[:, 0]).norm() < 1e-12 * again.norm()
    changed = [(new[0] - old).norm() > 1e-3 for new, old in zip(batch.history, state, strict=True)]
    assert sum(changed) >= 6


def test_every_element_and_many_shifts_are_drawn() -> None:
    spec = DataSpec(NavierStokes2D(viscosity=1e-2, dt=0.1).fields, (Axis("y", 1.0), Axis("x", 1.0)), 0.1)
    augmentation = Augmentation(spec, (8, 8), group="p4m", shift=True)
    draws = [augmentation._draw(0, trajectory, 0) for trajectory in range(200)]
    assert {element for element, _ in draws} == set(range(8))
    assert len({tuple(shift) for _, shift in draws}) > 50


def test_draws_follow_from_seed_epoch_and_window_alone(torus_set: DataSet) -> None:
    def batches(batch_size: int, epoch: int) -> dict[tuple[int, int], torch.Tensor]:
        module = TrajectoryDataModule(
            torus_set, grid=8, batch_size=batch_size, seed=4, augment={"group": "p4m", "shift": True}
        )
        loader = module.train_dataloader()
        loader.set_epoch(epoch)
        return {
            (int(t), int(s)): frames
            for batch in loader
            for t, s, frames in zip(batch.trajectory, batch.start, batch.history, strict=True)
        }

    few, many, later = batches(2, 0), batches(6, 0), batches(2, 1)
    both = few.keys() & many.keys()
    assert len(both) > 4
    assert all(torch.equal(few[key], many[key]) for key in both)
    assert any(not torch.equal(few[key], later[key]) for key in few.keys() & later.keys())


def test_windows_of_validation_are_left_as_they_are(torus_set: DataSet) -> None:
    plain = TrajectoryDataModule(torus_set, grid=8, seed=4)
    module = TrajectoryDataModule(torus_set, grid=8, seed=4, augment={"group": "p4m", "shift": True})
    pairs = list(zip(plain.val_dataloader(), module.val_dataloader(), strict=True))
    assert pairs
    assert all(torch.equal(a.history, b.history) for a, b in pairs)


def test_statistics_are_those_of_all_transformed_copies() -> None:
    spec = DataSpec(PlanarShallowWater().fields, (Axis("y", 1.0), Axis("x", 1.0)), 0.1)
    group = point_group("p4m")
    action = channel_action(group, spec)
    mean, std = (
        torch.tensor([2.0, 0.3, -0.4], dtype=torch.float64),
        torch.tensor([1.0, 0.5, 0.7], dtype=torch.float64),
    )
    samples = mean + std * torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    copies = torch.cat([samples @ rho.T for rho in action])
    found = Normaliser(mean, std, increment_std=[1.0, 3.0, 4.0]).symmetrised(action)
    torch.testing.assert_close(found.mean.double(), copies.mean(0), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found.std.double(), copies.std(0, correction=0), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found.increment_std, torch.tensor([1.0, 12.5**0.5, 12.5**0.5]))


def test_what_is_no_symmetry_of_the_box_is_refused() -> None:
    water = PlanarShallowWater(boundaries=("wall", "periodic"))
    spec = DataSpec(water.fields, water.axes, 0.1)
    with pytest.raises(
        ValueError, match=r"exchange the axes y \(wall\) and x \(periodic\).*augment.group=pmm"
    ):
        Augmentation(spec, (8, 8), group="p4")
    with pytest.raises(ValueError, match=r"have 8 and 9 points"):
        Augmentation(DataSpec(water.fields, PlanarShallowWater().axes, 0.1), (8, 9), group="p4")
    walls = PlanarShallowWater(boundaries=("wall", "open"))
    with pytest.raises(ValueError, match=r"no axis is periodic.*augment.shift=false"):
        Augmentation(DataSpec(walls.fields, walls.axes, 0.1), (8, 8), shift=True)


def test_an_unknown_option_gets_the_nearest_name(torus_set: DataSet) -> None:
    with pytest.raises(ValueError, match=r"augment has no option 'shfit'. Did you mean 'shift'"):
        TrajectoryDataModule(torus_set, augment={"shfit": True})
