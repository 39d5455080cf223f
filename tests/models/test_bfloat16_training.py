"""Training in bfloat16 on a problem whose solution is known: Burgers' equation by the transform of Cole and Hopf."""

import math

import lightning
import pytest
import torch

from pdesurrogate.fields import Axis, DataSpec, Field

VISCOSITY, TIME, POINTS, STEPS = 0.04, 1.5, 64, 120
SPEC = DataSpec((Field("u"),), (Axis("x", 2 * math.pi),), TIME)


def burgers(num, seed):
    """Initial states and solutions ``u = -2ν φ_x / φ`` of ``u_t + u u_x = ν u_xx``, where ``φ_t = ν φ_xx``."""
    generator = torch.Generator().manual_seed(seed)
    x = 2 * math.pi * torch.arange(POINTS, dtype=torch.float64) / POINTS
    k = torch.arange(1, 5, dtype=torch.float64)
    amplitudes = 0.5 * torch.randn(num, 2, 4, generator=generator, dtype=torch.float64) / k
    waves = torch.stack([torch.cos(k[:, None] * x), torch.sin(k[:, None] * x)])
    integrals = torch.stack([torch.sin(k[:, None] * x), -torch.cos(k[:, None] * x)]) / k[:, None]
    potential = torch.einsum("nck,ckx->nx", amplitudes, integrals)
    phi = torch.exp(-(potential - potential.amin(-1, keepdim=True)) / (2 * VISCOSITY))
    modes = torch.arange(POINTS // 2 + 1, dtype=torch.float64)
    phi_hat = torch.fft.rfft(phi) * torch.exp(-VISCOSITY * modes**2 * TIME)
    slope = torch.fft.irfft(1j * modes * phi_hat, n=POINTS)
    v = -2 * VISCOSITY * slope / torch.fft.irfft(phi_hat, n=POINTS)
    u = torch.einsum("nck,ckx->nx", amplitudes, waves)
    return u.float()[:, None, None], v.float()[:, None, None]


class Training(lightning.LightningModule):
    """Relative L2 error, Adam and one cycle of the learning rate."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def training_step(self, batch, batch_idx):
        return relative_error(self.model, *batch)

    def configure_optimizers(self):
        optimiser = torch.optim.Adam(self.parameters(), lr=5e-3)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=STEPS)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def relative_error(model, u, v):
    return ((model(u, u.new_zeros(len(u), 0)) - v).norm(dim=-1) / v.norm(dim=-1)).mean()


def trained(build_model, line, policy, trainer_precision, seed, folder):
    """A model, after training on 256 samples."""
    case = line._replace(spec=SPEC, history=1, horizon=1)
    torch.manual_seed(seed)
    model = build_model("fno", case, width=8, depth=3, num_modes=16, precision=policy)
    generator = torch.Generator().manual_seed(seed)
    data = torch.utils.data.TensorDataset(*burgers(256, seed=1))
    loader = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True, generator=generator)
    trainer = lightning.Trainer(
        accelerator="cpu",
        precision=trainer_precision,
        max_steps=STEPS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(Training(model.train()), loader)
    return model.eval()


@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*LeafSpec.*:FutureWarning",
    "ignore:The number of training batches",
)
def test_a_model_trained_in_bfloat16_is_as_accurate_as_in_float32(build_model, line, tmp_path):
    u, v = burgers(200, seed=2)
    full = trained(build_model, line, "full", "32-true", 1, tmp_path)
    mixed = trained(build_model, line, "bf16", "bf16-mixed", 1, tmp_path)
    assert all(p.dtype == torch.float32 for p in mixed.parameters())
    with torch.no_grad():
        error, error_mixed = (float(relative_error(model, u, v)) for model in (full, mixed))
    assert error < 0.2  # an untrained model is off by 1
    assert error_mixed != error
    assert error_mixed < 1.02 * error
