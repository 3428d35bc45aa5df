"""Measures of clips: each says what its name says, worked out by another road."""

import math

import numpy as np
import pytest
import torch
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder, Posterior
from sora_dit.dit_core.errors import ShapeError
from sora_dit.dit_core.measures import (
    TokenGrid,
    band_energy,
    check_causality,
    codec_quality,
    coherence,
    detail_ratio,
    edge_ratio,
    motion_ratio,
    psnr,
    ssim,
)

CONFIG = AutoencoderConfig(latent_channels=4, patch=2, encoder_channels=(8, 8), decoder_channels=(8, 8),
                           encoder_blocks=1, decoder_blocks=1, temporal_downsample=(True,),
                           spatial_downsample=(True,))  # fmt: skip


def clips(seed: int = 0, frames: int = 3, side: int = 32) -> torch.Tensor:
    return torch.rand(2, frames, side, side, 3, generator=torch.Generator().manual_seed(seed))


def grating(period: float, frames: int = 2, side: int = 64) -> torch.Tensor:
    wave = 0.5 + 0.25 * torch.sin(2 * math.pi * torch.arange(side) / period)
    return wave.view(1, 1, 1, side, 1).expand(1, frames, side, side, 3)


def test_ssim_is_scikit_images_with_gaussian_weights():
    filters = pytest.importorskip("scipy.ndimage")
    a, b = clips(0), (0.7 * clips(0) + 0.3 * clips(1))
    got = ssim(a, b)
    for clip in range(2):
        frames = []
        for x, y in zip(a[clip].double().numpy(), b[clip].double().numpy(), strict=True):
            x, y = x @ (0.299, 0.587, 0.114), y @ (0.299, 0.587, 0.114)

            def mean(z):
                return filters.gaussian_filter(z, 1.5, truncate=3.5)

            mx, my = mean(x), mean(y)
            vx, vy, vxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
            c1, c2 = 0.01**2, 0.03**2
            value = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
            frames.append(value[5:-5, 5:-5].mean())
        assert got[clip].item() == pytest.approx(np.mean(frames), abs=1e-5)


def test_psnr_of_a_known_error():
    assert psnr(clips() * 0.5 + 0.01, clips() * 0.5).tolist() == pytest.approx([40, 40], abs=1e-2)


@pytest.mark.parametrize("period,band", [(12, "coarse"), (6, "middle"), (3, "fine")])
def test_a_grating_has_its_energy_in_its_band(period, band):
    energy = {name: value.item() for name, value in band_energy(grating(period)).items()}
    assert energy[band] > 50 * max(value for name, value in energy.items() if name != band)
    # Parseval: sum |X|^2 = N sum x^2, for a wave of amplitude A under a Hann window (mean square 3/8 along each side)
    assert energy[band] == pytest.approx(64**2 * 64**2 * (3 / 8) ** 2 * 0.25**2 / 2, rel=0.05)


def test_half_the_contrast_is_a_quarter_of_the_energy_and_blur_takes_the_fine_first():
    flat = 0.5 * clips() + 0.5 * clips().mean(dim=(2, 3), keepdim=True)
    assert all(
        ratio.tolist() == pytest.approx([0.25, 0.25], rel=1e-3) for ratio in detail_ratio(flat, clips()).values()
    )
    soft = torch.nn.functional.avg_pool3d(clips(side=34).movedim(-1, 1), (1, 3, 3), 1).movedim(1, -1)
    ratio = {name: value.mean().item() for name, value in detail_ratio(soft, clips(side=34)[:, :, 1:-1, 1:-1]).items()}
    assert ratio["fine"] < 0.3 * ratio["middle"] < 0.3 * ratio["coarse"] < 0.3


def test_motion_ratio_counts_frame_differences_only():
    assert motion_ratio(0.3 * clips() + 0.2, clips()).tolist() == pytest.approx([0.3, 0.3], rel=1e-4)
    still = clips()[:, :1].expand(-1, 3, -1, -1, -1)
    assert motion_ratio(still, clips()).tolist() == [0, 0]


def test_a_causal_model_keeps_its_word_and_a_broken_one_is_caught():
    torch.manual_seed(0)
    model = CausalVideoAutoencoder(CONFIG)
    video = torch.rand(1, 3, 7, 16, 16) * 2 - 1
    assert check_causality(model, video).holds
    body = model.encoder.body
    model.encoder.body = torch.nn.ModuleList([*body[:-1], Backwards(), body[-1]])
    found = check_causality(model, video)
    assert not found.holds and found.encoder_leak > 1e-3 and found.decoder_leak == 0
    with pytest.raises(ShapeError, match="at least 3 frames"):
        check_causality(model, video[:, :, :1])


def test_a_codec_that_says_nothing_is_not_called_causal():
    model = CausalVideoAutoencoder(CONFIG)
    with torch.no_grad():
        model.encoder.body[-1].weight.zero_()
    assert not check_causality(model, torch.rand(1, 3, 5, 16, 16)).holds


class Backwards(torch.nn.Module):
    """Lets each frame see the clip's last."""

    def forward(self, x, stream=None):
        return x + x[:, :, -1:]


def test_codec_quality_of_a_codec_that_loses_nothing_and_of_one_that_blurs():
    video = (clips(frames=5, side=16) * 2 - 1).permute(0, 4, 1, 2, 3)
    model = CausalVideoAutoencoder(CONFIG)
    model.encode = lambda v: Posterior(v, torch.zeros_like(v))
    model.decode = lambda latent: latent
    perfect = codec_quality(model, [video, video])
    assert perfect.ssim == pytest.approx(1) and perfect.fine == pytest.approx(1) and perfect.motion == pytest.approx(1)
    assert perfect.psnr > 100
    grid = TokenGrid.of(CONFIG)
    frames = video.permute(0, 2, 3, 4, 1) * 0.5 + 0.5
    seams = 0.5 * (edge_ratio(frames, grid.height, 2) + edge_ratio(frames, grid.width, 3))
    assert perfect.seams == pytest.approx(seams.mean().item())
    model.decode = lambda latent: torch.nn.functional.avg_pool3d(latent, (1, 3, 3), 1, (0, 1, 1))
    blurred = codec_quality(model, [video])
    assert blurred.fine < 0.3 and blurred.psnr < 20 and blurred.to_dict(1)["fine"] == round(blurred.fine, 1)


def test_what_has_no_detail_and_does_not_move_has_no_ratio():
    still = torch.full((1, 3, 32, 32, 3), 0.5)
    both, other = torch.cat([still, clips()[:1]]), torch.cat([still + 0.001 * clips(1)[:1], clips()[:1]])
    assert motion_ratio(other, both).isnan().tolist() == [True, False]
    assert all(ratio.isnan().tolist() == [True, False] for ratio in detail_ratio(other, both).values())


def test_a_single_frame_has_no_seam_in_time():
    grid = TokenGrid(8, 8, 1, 4)
    found = coherence(clips(frames=1), grid)
    assert math.isnan(found["time"]) and math.isfinite(found["rows"])
