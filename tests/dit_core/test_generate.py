"""Conditioning worked out once, guidance, and known frames."""

import dataclasses

import pytest
import torch
from sora_dit.dit_core.conditioning import Denoiser, Known, Prompt, combine
from sora_dit.dit_core.diffusion.noise import cpu_noise
from sora_dit.dit_core.diffusion.schedules import make_sigmas
from sora_dit.dit_core.errors import ShapeError, SoraDiTError
from sora_dit.dit_core.generate import denoise_latent, expand_mask, model_objective
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT

CONFIG = TransformerConfig(
    width=24,
    depth=3,
    heads=2,
    ff_width=32,
    in_channels=4,
    text_width=10,
    patch=(1, 2, 2),
    latent_mean=(0.5, -1.0, 0.0, 2.0),
    latent_std=(1.0, 2.0, 0.5, 3.0),
)


@pytest.fixture()
def model():
    return make()


def make(**changes):
    torch.manual_seed(0)
    model = VideoDiT(dataclasses.replace(CONFIG, **changes)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.15)
    return model


def prompts(tokens=(6, 3)):
    torch.manual_seed(1)
    return [Prompt(torch.randn(1, n, 10), torch.ones(1, n, dtype=torch.bool), torch.randn(1, 10)) for n in tokens]


def conditioning(model, steps=4, negative=True, **schedule):
    objective = model_objective(model.config)
    positive, other = prompts()
    return combine(model, objective, make_sigmas(objective, steps, **schedule), positive, other if negative else None)


class Calls:
    """Counts how often modules run."""

    def __init__(self, modules):
        self.counts = dict.fromkeys(modules, 0)
        for name, module in modules.items():
            module.register_forward_hook(lambda *_, name=name: self.counts.__setitem__(name, self.counts[name] + 1))


@pytest.mark.parametrize("modulation", ["shared", "per_block"])
@pytest.mark.parametrize("steps", [2, 9])
def test_text_and_modulation_are_worked_out_once_and_the_loop_does_not_touch_them(modulation, steps):
    model = make(modulation=modulation)
    once = {
        "timestep": model.timestep,
        "modulation": model.modulation,
        "text_in": model.text_in,
        "pooled": model.pooled,
        **{f"kv{i}": b.text_attention.kv for i, b in enumerate(model.blocks)},
    }
    calls = Calls(once | {"patch_in": model.patch_in})
    c = conditioning(model, steps)
    before = dict(calls.counts)
    assert all(before[name] == 2 for name in once)  # once for each prompt, whatever the number of steps
    denoise_latent(model, c, torch.zeros(1, 4, 2, 4, 4), seed=1, guidance_scale=3.0)
    assert {n: calls.counts[n] for n in once} == {n: before[n] for n in once}
    assert calls.counts["patch_in"] == steps  # both halves in one batch


def test_guidance_scale_one_runs_the_prompt_alone(model):
    sizes = []
    model.patch_in.register_forward_hook(lambda m, args, out: sizes.append(len(args[0])))
    latent = torch.zeros(1, 4, 2, 4, 4)
    alone = denoise_latent(model, conditioning(model, negative=False), latent, seed=1)
    assert sizes == [1] * 4
    with_negative = denoise_latent(model, conditioning(model), latent, seed=1, guidance_scale=1.0)
    assert torch.equal(alone, with_negative)
    denoise_latent(model, conditioning(model), latent, seed=1, guidance_scale=2.0)
    assert sizes[8:] == [2] * 4


@pytest.mark.parametrize("objective", ["flow", "epsilon", "v"])
def test_guidance_ends_where_it_is_told_to(objective):
    model = make(objective=objective)
    c, kind = conditioning(model, 5), model_objective(model.config)
    until = (c.timesteps[2] / kind.timestep_max).item() - 1e-3  # levels 0, 1 and 2 are above it
    make_denoiser = lambda scale, end=0.0: Denoiser(model, kind, c, scale, 2, guidance_until=end)  # noqa: E731
    ended, guided, alone = make_denoiser(4.0, until), make_denoiser(4.0), make_denoiser(1.0)
    x = torch.randn(2, 4, 3, 4, 4)
    with torch.no_grad():
        for index in range(5):
            assert torch.equal(ended(x, index), (guided if index < 3 else alone)(x, index))
            assert not torch.equal(guided(x, index), alone(x, index))


def test_steps_after_guidance_need_no_negative_prompt(model):
    latent = torch.zeros(1, 4, 3, 4, 4)
    alone = denoise_latent(model, conditioning(model, negative=False), latent, seed=1)
    never = denoise_latent(
        model, conditioning(model, negative=False, denoise=0.5), latent, seed=1, guidance_scale=4.0, guidance_until=1.0
    )
    assert torch.isfinite(never).all() and never.shape == alone.shape
    with pytest.raises(SoraDiTError, match="without a negative prompt"):
        denoise_latent(model, conditioning(model, negative=False), latent, seed=1, guidance_scale=4.0, guidance_until=1)


@pytest.mark.parametrize("objective", ["flow", "epsilon", "v"])
def test_one_step_equals_the_formula_with_guidance(objective):
    model = make(objective=objective)
    c = conditioning(model, 5)
    denoiser = Denoiser(model, model_objective(model.config), c, 4.0, batch=2)
    x = torch.randn(2, 4, 3, 4, 4)
    positive, negative = prompts()
    sigma, t = c.sigmas[1], c.timesteps[1]
    with torch.no_grad():
        scaled = x if objective == "flow" else x / (1 + sigma**2) ** 0.5
        run = lambda p: model(scaled, t.expand(2), p.embeddings.expand(2, -1, -1), None, p.pooled.expand(2, -1))  # noqa: E731
        guided = run(negative) + 4.0 * (run(positive) - run(negative))
        if objective == "v":
            expected = x / (1 + sigma**2) - guided * sigma / (1 + sigma**2) ** 0.5
        else:
            expected = x - sigma * guided
        torch.testing.assert_close(denoiser(x, 1), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "unipc", "ddim", "ddpm"])
@pytest.mark.parametrize("patch", [(1, 2, 2), (2, 1, 1)])
def test_kept_parts_come_out_as_they_went_in(sampler, patch):
    model = make(patch=patch)
    latent, mask = torch.randn(2, 4, 3, 4, 4), torch.ones(2, 1, 3, 4, 4)
    mask[0, :, 0], mask[1, :, 2, :2] = 0, 0
    out = denoise_latent(
        model, conditioning(model), latent, seed=2, guidance_scale=2.0, sampler=sampler, noise_mask=mask
    )
    kept = (mask == 0).expand_as(latent)
    assert torch.equal(out[kept], latent[kept])
    assert (out[~kept] - latent[~kept]).abs().mean() > 0.1


def test_whole_kept_frames_are_shown_clean_at_timestep_zero(model):
    c = conditioning(model, negative=False)
    mask = torch.ones(1, 1, 3, 4, 4)
    mask[:, :, 1] = 0
    clean, noise, x = (torch.randn(1, 4, 3, 4, 4) for _ in range(3))
    denoiser = Denoiser(model, model_objective(model.config), c, 1.0, 1, Known(clean, mask, noise))
    got = denoiser(x, 0)
    seen = x.clone()
    seen[:, :, 1] = clean[:, :, 1]
    positive = prompts()[0]
    with torch.no_grad():
        t = torch.tensor([[c.timesteps[0], 0.0, c.timesteps[0]]])
        velocity = model(seen, t, positive.embeddings, None, positive.pooled)
    expected = x - c.sigmas[0] * velocity
    expected[:, :, 1] = clean[:, :, 1]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_known_frames_change_what_is_generated(model):
    mask = torch.ones(1, 1, 3, 4, 4)
    mask[:, :, 0] = 0
    a, b = (
        denoise_latent(
            model, conditioning(model), torch.full((1, 4, 3, 4, 4), v), seed=2, guidance_scale=2.0, noise_mask=mask
        )
        for v in (1.0, -3.0)
    )
    assert (a[:, :, 1:] - b[:, :, 1:]).abs().max() > 1e-3


def test_same_seed_same_latent_other_seed_another(model):
    latent = torch.zeros(1, 4, 2, 4, 4)
    run = lambda seed, sampler="euler": denoise_latent(model, conditioning(model), latent, seed=seed, sampler=sampler)  # noqa: E731
    for sampler in ("euler", "ddpm"):
        assert torch.equal(run(7, sampler), run(7, sampler))
    assert (run(7) - run(8)).abs().mean() > 0.1


def test_a_low_first_level_keeps_the_video_and_the_full_one_forgets_it(model):
    latent = torch.randn(1, 4, 2, 4, 4) * 3
    near = denoise_latent(model, conditioning(model, steps=2, denoise=0.02), latent, seed=1)
    assert (near - latent).abs().mean() < 0.3
    a = denoise_latent(model, conditioning(model), latent, seed=1)
    b = denoise_latent(model, conditioning(model), -latent, seed=1)
    assert torch.equal(a, b)


def test_cancelling_from_the_callback_stops_within_a_step(model):
    seen = []

    def callback(index, steps, x, x0):
        seen.append(index)
        if index == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        denoise_latent(model, conditioning(model, 6), torch.zeros(1, 4, 2, 4, 4), seed=1, callback=callback)
    assert seen == [0, 1]


def test_mistakes_are_named(model):
    latent = torch.zeros(1, 4, 2, 4, 4)
    with pytest.raises(SoraDiTError, match="without a negative prompt"):
        denoise_latent(model, conditioning(model, negative=False), latent, seed=1, guidance_scale=2.0)
    with pytest.raises(SoraDiTError, match="worked out for another model"):
        denoise_latent(make(), conditioning(model), latent, seed=1)
    with pytest.raises(ShapeError, match="works on \\[batch, 4, frames"):
        denoise_latent(model, conditioning(model), torch.zeros(1, 16, 2, 4, 4), seed=1)
    with torch.no_grad():
        model.final.projection.bias.fill_(float("nan"))
    with pytest.raises(SoraDiTError, match="not finite"):
        denoise_latent(model, conditioning(model), latent, seed=1)


def test_masks_of_fewer_axes_are_pictures_of_moments():
    shape = torch.Size((2, 4, 3, 4, 4))
    mask = torch.zeros(8, 8)
    mask[:4] = 1
    assert expand_mask(mask, shape).shape == (2, 1, 3, 4, 4)
    assert expand_mask(mask, shape)[0, 0, 0, :, 0].tolist() == [1, 1, 0, 0]
    for axes in ((3, 1, 1, 1), (3, 1, 1)):  # as ComfyUI's Set Latent Noise Mask and a plain MASK have it
        moments = torch.tensor([0.0, 1.0, 1.0]).view(axes)
        assert expand_mask(moments, shape)[1, 0, :, 0, 0].tolist() == [0, 1, 1]
    for wrong in (torch.zeros(5, 1, 3, 4, 4), torch.zeros(4), torch.zeros(0, 4, 4)):
        with pytest.raises(ShapeError, match="Noise mask: got shape"):
            expand_mask(wrong, shape)


def test_masks_are_resized_linearly():
    strip = torch.zeros(96, 96)
    strip[4:8] = 1  # half of what counts for the first latent row: rows 3 and 4, whose edge is its middle
    assert expand_mask(strip, torch.Size((1, 4, 7, 12, 12)))[0, 0, 0, :, 0].tolist() == [0.5] + [0] * 11
    ramp = torch.arange(24.0)[:, None, None].expand(24, 96, 96)
    seen = expand_mask(ramp, torch.Size((1, 4, 7, 12, 12)))[0, 0, :, 3, 3]
    torch.testing.assert_close(seen, (torch.arange(7) + 0.5) * 24 / 7 - 0.5)


def test_a_mask_with_a_picture_for_each_frame_keeps_what_is_kept_in_all_frames_of_a_latent_frame():
    mask = torch.ones(25, 96, 96)
    mask[0] = 0  # image to video: the first latent frame is the first frame alone
    shape = torch.Size((1, 4, 7, 12, 12))
    assert expand_mask(mask, shape)[0, 0, :, 5, 5].tolist() == [0, 1, 1, 1, 1, 1, 1]
    mask[1:8] = 0  # frame 8 is to be made, so the third latent frame (frames 5 to 8) is too
    assert expand_mask(mask, shape)[0, 0, :, 5, 5].tolist() == [0, 0, 1, 1, 1, 1, 1]


def test_noise_is_the_cpu_generators():
    expected = torch.randn(2, 3, generator=torch.Generator().manual_seed(42))
    assert torch.equal(cpu_noise(42, (2, 3)), expected)


def test_noises_of_a_seed_are_numbered():
    generator = torch.Generator().manual_seed(42)
    first, second, third = (torch.randn(1, 4, 8, generator=generator) for _ in range(3))
    assert torch.equal(cpu_noise(42, (3, 4, 8), [2, 0, 2]), torch.cat([third, first, third]))
    assert torch.equal(cpu_noise(42, (1, 4, 8), [1]), second)
    assert torch.equal(cpu_noise(42, (2, 4, 8), [0, 1]), cpu_noise(42, (2, 4, 8)))


def test_combined_prompts_are_averaged_by_weight():
    model = make()
    objective = model_objective(model.config)
    sigmas = make_sigmas(objective, 4)
    first, second = prompts()
    negative = Prompt(torch.zeros(1, 2, 10), None, torch.zeros(1, 10))
    x = torch.randn(2, 4, 3, 4, 4)

    def denoised(positive, scale):
        return Denoiser(model, objective, combine(model, objective, sigmas, positive, negative), scale, 2)(x, 1)

    both = [first, dataclasses.replace(second, weight=3.0)]
    with torch.no_grad():
        a, b, none = denoised(first, 1.0), denoised(second, 1.0), denoised(negative, 1.0)
        torch.testing.assert_close(denoised(both, 1.0), (a + 3 * b) / 4, atol=1e-5, rtol=1e-5)
        guided = none + 5 * ((a + 3 * b) / 4 - none)
        torch.testing.assert_close(denoised(both, 5.0), guided, atol=1e-4, rtol=1e-4)


def test_conditioning_moves_without_changing():
    model = make()
    there = conditioning(model).to("cpu")
    latent = torch.zeros(1, 4, 3, 4, 4)
    a = denoise_latent(model, there, latent, seed=1, guidance_scale=3.0)
    b = denoise_latent(model, conditioning(model), latent, seed=1, guidance_scale=3.0, device="cpu")
    assert torch.equal(a, b)


def test_prompts_whose_strengths_cancel_out_are_said(model):
    weak = [dataclasses.replace(prompt, weight=0.0) for prompt in prompts()]
    objective = model_objective(model.config)
    with pytest.raises(SoraDiTError, match="strengths of the negative prompts are 0, 0; expected a sum above 0"):
        combine(model, objective, make_sigmas(objective, 2), prompts()[0], weak)


def test_a_latent_with_nan_is_not_the_models_fault(model):
    latent = torch.zeros(1, 4, 2, 4, 4)
    latent[0, 0, 0, 0, 0] = torch.nan
    with pytest.raises(SoraDiTError, match="^Latent: it holds numbers that are not finite"):
        denoise_latent(model, conditioning(model, denoise=0.5), latent, seed=1)


def test_an_empty_clip_stays_empty_beside_another(model):
    torch.manual_seed(2)
    pair = torch.randn(2, 4, 2, 4, 4)
    pair[1] = 0
    plan = conditioning(model, denoise=0.5)
    together = denoise_latent(model, plan, pair, seed=1, noise_numbers=[0, 1])
    alone = denoise_latent(model, plan, pair[1:], seed=1, noise_numbers=[1])
    torch.testing.assert_close(together[1:], alone)
