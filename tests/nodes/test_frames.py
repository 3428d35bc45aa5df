"""Sizes and frame counts in the user's units, encoding, decoding, and joining frames to a video."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from sora_dit.dit_core.errors import SoraDiTError
from sora_dit.nodes import _checks, host


@pytest.mark.parametrize(
    "size, sentences",
    [
        ({"width": 130}, ["width is 130 pixels, but must be a multiple of 8; the nearest are 128 and 136."]),
        ({"height": 0}, ["height is 0 pixels, but must be a multiple of 8; the nearest are 8 and 16."]),
        ({"height": -8}, ["height is -8 pixels", "8 and 16"]),
        ({"width": 5000}, ["width is 5000 pixels; the largest is 4096."]),
        ({"frames": 18}, ["one more than a multiple of 4 (1, 5, 9, 13, ...); the nearest are 17 and 21."]),
        ({"frames": 16}, ["the nearest are 13 and 17."]),
        ({"frames": 0}, ["frames is 0", "the nearest are 1 and 5."]),
        ({"frames": 5000}, ["frames is 5000; the most is 4001."]),
        ({"width": 9, "frames": 2}, ["width is 9 pixels", "frames is 2"]),
        ({"frames": 1}, []),
        ({"width": 128, "height": 8, "frames": 17}, []),
    ],
)
def test_sizes_are_checked_before_and_while_running(station, run, parts, size, sentences):
    before = station["EmptyLatent"].validate_inputs(**size)
    if not sentences:
        assert before is True
        assert run("EmptyLatent", model=parts[0], **size)[0]["samples"].any().item() is False
        return
    with pytest.raises(SoraDiTError) as while_running:
        run("EmptyLatent", model=parts[0], **size)
    for sentence in sentences:
        assert sentence in before and sentence in str(while_running.value)


def test_every_nearest_value_fits():
    for factor in (1, 2, 4, 8):
        for frames in range(-3, 60):
            problem = _checks.frames_problem(frames, factor)
            low, high = _checks.nearest(frames, factor, 1)
            assert (problem is None) == (frames >= 1 and frames % factor == 1 % factor)
            assert not _checks.frames_problem(low, factor) and not _checks.frames_problem(high, factor)
            assert not _checks.size_problem("width", _checks.nearest(frames, factor)[0], factor)


def test_linked_values_are_not_known_yet(station):
    assert station["EmptyLatent"].validate_inputs(width=None, height=None, frames=None) is True


def test_the_loaded_model_has_the_last_word(run, say):
    class Vae:
        latent_channels = 12

        def spacial_compression_decode(self):
            return 32

        def temporal_compression_decode(self):
            return 8

    latent = run("EmptyLatent", model=Vae(), width=64, height=96, frames=17, batch_size=2)[0]
    assert latent["samples"].shape == (2, 12, 3, 3, 2)
    assert "multiple of 32; the nearest are 32 and 64" in say("EmptyLatent", model=Vae(), width=40, height=64)
    assert "nearest are 9 and 17" in say("EmptyLatent", model=Vae(), width=64, height=64, frames=13)
    assert "Expected a model or a VAE, got nothing" in say("EmptyLatent", model=None)


def test_model_and_vae_make_the_same_empty_latent(run, parts):
    model, _, vae = parts
    assert run("EmptyLatent", model=model)[0]["samples"].shape == (1, 4, 7, 12, 12)
    assert run("EmptyLatent", model=vae)[0]["samples"].shape == (1, 4, 7, 12, 12)


def smooth_clip(frames=9, height=16, width=24):
    grid = torch.linspace(0, 1, width).expand(frames, height, width)
    return torch.stack([grid, grid.flip(2), torch.linspace(0, 1, frames)[:, None, None].expand_as(grid)], -1)


def test_decode_in_pieces_is_the_same(run, parts):
    torch.manual_seed(0)
    latent = {"samples": torch.randn(1, 4, 5, 2, 3)}
    whole = run("Decode", vae=parts[2], latent=latent, chunk_frames=4096)[0]
    assert whole.shape == (17, 16, 24, 3) and whole.dtype == torch.float32 and whole.device.type == "cpu"
    assert 0 <= whole.min() and whole.max() <= 1
    for chunk in (0, 1, 4, 8, 9):
        assert torch.allclose(run("Decode", vae=parts[2], latent=latent, chunk_frames=chunk)[0], whole, atol=1e-5)


def test_automatic_pieces_get_smaller_with_the_picture(parts):
    vae = parts[2]
    assert vae._chunk_latents((1, 4, 5, 2, 2), 0) > vae._chunk_latents((1, 4, 5, 256, 256), 0) == 1


def test_decode_tells_how_far_it_is(run, parts, session, monkeypatch):
    seen = []
    monkeypatch.setattr(session, "step", lambda *args: seen.append(args[:2]))
    run("Decode", vae=parts[2], latent={"samples": torch.randn(1, 4, 3, 2, 2)}, chunk_frames=4)
    assert seen == [(1, 9), (5, 9), (9, 9)]


def test_out_of_memory_goes_on_in_the_smallest_pieces(run, parts, session, monkeypatch):
    vae, asked = parts[2], []
    real = vae.decode

    def decode(samples, chunk_frames=0, on_chunk=None):
        asked.append(chunk_frames)
        if len(asked) == 1:
            raise torch.cuda.OutOfMemoryError("no memory")
        return real(samples, chunk_frames, on_chunk)

    monkeypatch.setattr(vae, "decode", decode)
    images = run("Decode", vae=vae, latent={"samples": torch.randn(1, 4, 3, 2, 2)})[0]
    assert images.shape[0] == 9 and asked == [0, 4] and "not enough memory" in session.notes[0].text


def test_flat_frames_are_remarked(run, parts, session):
    class Grey:
        def decode(self, samples):
            pictures = torch.rand(1, 5, 8, 8, 3)
            pictures[:, :3] = 0.5
            return pictures

    run("Decode", vae=Grey(), latent={"samples": torch.zeros(1, 4, 2, 1, 1)})
    assert "3 of 5 frames are one single colour" in session.notes[0].text


def test_decode_takes_a_picture_vae(run):
    class Picture:
        latent_dim = 2

        def decode(self, samples):
            return samples.movedim(1, -1)[..., :3].sigmoid()

    images = run("Decode", vae=Picture(), latent={"samples": torch.randn(2, 4, 3, 8, 8)})[0]
    assert images.shape == (6, 8, 8, 3)


def test_vae_has_comfyuis_methods(parts):
    vae = parts[2]
    frames = smooth_clip()
    latent = vae.encode(frames)
    assert latent.shape == (1, 4, 3, 2, 3)
    with torch.no_grad():
        plain = vae.first_stage_model.encode(frames.permute(3, 0, 1, 2)[None] * 2 - 1)
    assert torch.allclose(latent, plain.mean, atol=1e-5)
    assert torch.allclose(vae.encode(frames[None].expand(2, -1, -1, -1, -1))[1:], latent, atol=1e-5)
    assert torch.allclose(vae.encode_tiled(frames, tile_x=64, tile_t=5), latent, atol=1e-5)
    assert vae.decode(latent).shape == (1, 9, 16, 24, 3)
    tiled = vae.decode_tiled(latent, tile_x=8, tile_y=8, overlap=2, tile_t=2, overlap_t=1)
    assert torch.allclose(tiled, vae.decode(latent), atol=1e-5)
    assert (vae.spacial_compression_decode(), vae.spacial_compression_encode()) == (8, 8)
    assert vae.temporal_compression_decode() == 4 and vae.throw_exception_if_invalid() is None
    with pytest.raises(SoraDiTError, match="Save Model"):
        vae.get_sd()  # what core nodes would write could not be opened again


def test_a_text_encoder_for_core_nodes(parts):
    clip = parts[1]
    other = clip.clone()
    other.clip_layer(-1)  # the last: what the model has learned from
    other.set_tokenizer_option("t5xxl_min_length", 256)
    assert torch.equal(other.encode("sea"), clip.encode("sea"))
    with pytest.raises(SoraDiTError, match="not with layer -2"):
        other.clip_layer(-2)
    with pytest.raises(SoraDiTError, match="Save Model"):
        other.get_sd()
    other.use_clip_schedule = True
    with pytest.raises(SoraDiTError, match="schedule_clip"):
        other.encode_from_tokens_scheduled(other.tokenize("sea"))
    assert len(clip.encode_from_tokens_scheduled(clip.tokenize("sea"))) == 1


def test_encode_makes_one_clip(run, parts):
    assert run("Encode", vae=parts[2], images=smooth_clip())[0]["samples"].shape == (1, 4, 3, 2, 3)
    assert run("Encode", vae=parts[2], images=smooth_clip(1))[0]["samples"].shape == (1, 4, 1, 2, 3)
    with_alpha = torch.cat([smooth_clip(), torch.ones(9, 16, 24, 1)], -1)
    assert torch.equal(
        run("Encode", vae=parts[2], images=with_alpha)[0]["samples"],
        run("Encode", vae=parts[2], images=smooth_clip())[0]["samples"],
    )


def test_encode_says_what_does_not_fit(say, parts):
    text = say("Encode", vae=parts[2], images=smooth_clip(7, 17, 24))
    assert "height is 17 pixels" in text and "16 and 24" in text and "frames is 7" in text and "5 and 9" in text
    assert "no frames" in say("Encode", vae=parts[2], images=torch.zeros(0, 16, 16, 3))
    assert "Expected images" in say("Encode", vae=parts[2], images=torch.zeros(16, 16))
    assert "multiple of 8" in say("Encode", vae=parts[2], images=torch.zeros(1, 4, 4, 3), fit="trim")
    assert "it has no encode" in say("Encode", vae=3, images=smooth_clip())


@pytest.mark.parametrize("fit, shape", [("trim", (1, 4, 2, 2, 3)), ("pad", (1, 4, 3, 3, 4))])
def test_encode_fits_a_clip_on_request(run, parts, session, fit, shape):
    assert run("Encode", vae=parts[2], images=smooth_clip(7, 17, 30), fit=fit)[0]["samples"].shape == shape
    assert "7 frames of 30 x 17 became" in session.notes[0].text


def test_trimming_keeps_the_middle_and_padding_repeats_the_edge(parts):
    from sora_dit.nodes import _coding

    clip = smooth_clip(6, 12, 12)
    trimmed, _ = _coding.fitted(clip, parts[2], "trim")
    assert torch.equal(trimmed, clip[:5, 2:10, 2:10])
    padded, _ = _coding.fitted(clip, parts[2], "pad")
    assert torch.equal(padded[:6, :12, :12], clip)
    assert torch.equal(padded[8], padded[5]) and torch.equal(padded[:, :, 15], padded[:, :, 11])


def test_encode_takes_a_picture_vae(run):
    class Picture:
        latent_dim = 2

        def spacial_compression_decode(self):
            return 8

        def encode(self, pixels):
            return torch.zeros(pixels.shape[0], 4, pixels.shape[1] // 8, pixels.shape[2] // 8)

    assert run("Encode", vae=Picture(), images=smooth_clip(7))[0]["samples"].shape == (1, 4, 7, 2, 3)


def test_a_video_is_made_of_frames_rate_and_sound(run):
    sound = {"waveform": torch.zeros(1, 2, 4000), "sample_rate": 8000}
    video = run("AssembleVideo", images=smooth_clip(), fps=23.976, audio=sound)[0]
    assert video.get_frame_rate() == Fraction(24000, 1001)
    assert video.get_dimensions() == (24, 16) and video.get_frame_count() == 9
    assert video.get_components().audio is sound


def test_assemble_says_what_it_cannot_use(say):
    assert "Expected an AUDIO" in say("AssembleVideo", images=smooth_clip(), audio={"wave": 1})
    assert "no frames" in say("AssembleVideo", images=torch.zeros(0, 8, 8, 3))
    assert "expected [frames, height, width, 3]" in say("AssembleVideo", images=torch.zeros(1, 8, 8, 7))


def test_grey_pictures_become_colour(run):
    video = run("AssembleVideo", images=torch.rand(2, 8, 8, 1))[0]
    assert video.get_components().images.shape == (2, 8, 8, 3)


def test_results_lie_on_the_cpu(session):
    assert host.zeros((1, 2)).device.type == "cpu" and not host.in_comfyui
