"""Latents as colours, for previews."""

import dataclasses

import pytest
import torch
from sora_dit.dit_core.autoencoder import AutoencoderConfig, fit_colours, latent_picture
from sora_dit.dit_core.errors import ConfigError

COLOURS = ((0.5, 0.0, 0.0), (0.0, -0.25, 0.1), (0.2, 0.3, -0.4))


def test_a_linear_relation_is_found_again():
    torch.manual_seed(0)
    table = torch.tensor(COLOURS)
    latents = [torch.randn(2, 2, 3, 4, 2) for _ in range(3)]

    def video(latent):  # cells of 1 or 4 frames x 8 x 8 pixels, with detail whose mean is zero
        cells = (latent.movedim(1, -1) @ table[:2] + table[2]).movedim(-1, 1)
        frames = torch.cat([cells[:, :, :1], cells[:, :, 1:].repeat_interleave(4, 2)], 2)
        detail = torch.tensor([1.0, -1.0]).repeat(4)
        return frames.repeat_interleave(8, 3).repeat_interleave(8, 4) + detail.repeat(2)

    found = fit_colours((latent, video(latent)) for latent in latents)
    assert torch.allclose(torch.tensor(found), table, atol=1e-4)


def test_a_picture_shows_every_frame_in_reading_order():
    latent = torch.zeros(2, 5, 2, 2)
    latent[0] = torch.arange(5.0)[:, None, None] / 4  # red grows from frame to frame
    picture = latent_picture(latent, COLOURS, largest=64)
    assert picture.dtype == torch.uint8 and max(picture.shape[:2]) <= 64
    cell = 64 // 6  # three frames of two cells in a row
    assert picture.shape == (4 * cell, 6 * cell, 3)
    reds = [int(picture[row * 2 * cell, column * 2 * cell, 0]) for row in (0, 1) for column in (0, 1, 2)][:5]
    assert reds == [round((0.5 * k / 4 + 0.2 + 1) * 127.5) for k in range(5)]
    assert picture[-1, -1].tolist() == [0, 0, 0]  # no sixth frame


def test_long_and_large_clips_make_one_picture():
    assert latent_picture(torch.zeros(2, 33, 16, 24), COLOURS).shape[-1] == 3
    assert latent_picture(torch.zeros(2, 1, 300, 700), COLOURS, largest=512).shape == (300, 700, 3)


def test_they_travel_in_the_configuration():
    config = dataclasses.replace(AutoencoderConfig(), latent_channels=2, latent_rgb=COLOURS)
    assert AutoencoderConfig.from_dict(config.to_dict()) == config
    for wrong in (COLOURS[:2], ((0.1, 0.2),) * 3, "red"):
        with pytest.raises(ConfigError, match="latent_rgb"):
            dataclasses.replace(config, latent_rgb=wrong)
