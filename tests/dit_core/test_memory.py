"""Out of memory, as many libraries say it, and how much a denoising holds."""

import pytest
import torch
from sora_dit.dit_core.conditioning import Denoiser, Prompt, combine
from sora_dit.dit_core.diffusion import make_sigmas
from sora_dit.dit_core.generate import model_objective
from sora_dit.dit_core.latents.cache import encoding_dtype
from sora_dit.dit_core.memory import denoise_bytes, is_out_of_memory
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
    ],
)
def test_memory_that_ran_out_is_known_by_its_words(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [ValueError("out of memory"), RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED")])
def test_other_errors_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)


def test_what_a_conditioning_holds_is_counted_to_the_byte():
    config = TransformerConfig(width=24, depth=2, heads=2, ff_width=32, in_channels=4, text_width=16, text="both")
    model = VideoDiT(config)
    objective = model_objective(config)
    prompt = Prompt(torch.randn(1, 5, 16), torch.ones(1, 5, dtype=torch.bool), torch.randn(1, 16))
    found = combine(model, objective, make_sigmas(objective, 3), prompt, prompt)
    # by hand: of each prompt keys and values of two blocks, no mask where nothing is padding; scale, shift and gate of
    # 4 timesteps (6 of each block, 2 of the end)
    text = 2 * 2 * 5 * 24 * 4
    modulation = 4 * (2 * 6 + 2) * 24 * 4
    assert found.nbytes == 2 * (text + modulation)


class Codec:
    """As much of an autoencoder as is asked."""

    def __init__(self, encoder):
        self.encoder = encoder


def test_only_convolutions_on_a_card_that_can_are_encoded_in_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    card = torch.device("cuda", 0)
    assert encoding_dtype(Codec(encoder=object()), card) == torch.bfloat16
    assert encoding_dtype(Codec(encoder=None), card) == torch.float32, "a linear encoder is one small product"
    assert encoding_dtype(Codec(encoder=object()), torch.device("cpu")) == torch.float32
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))
    assert encoding_dtype(Codec(encoder=object()), card) == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("change", [{"ff_width": 64}, {"ff_width": 256}, {"ff_width": 256, "feed_forward": "swiglu"}])
def test_the_estimate_of_a_pass_is_above_what_torch_allocates_and_not_far_above(change, dtype):
    config = TransformerConfig(width=64, depth=2, heads=2, in_channels=4, text_width=16, patch=(1, 1, 1), **change)
    model = VideoDiT(config).to(dtype)
    x = torch.randn(1, 4, 4, 24, 24, dtype=dtype)
    with torch.no_grad():
        text = model.prepare_text(torch.randn(1, 8, 16, dtype=dtype))
        pooled = torch.randn(1, 16, dtype=dtype)
        modulation = model.modulate(torch.tensor([5.0]), pooled).map(lambda part: part[None])
        model.denoise(x, modulation, text)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
            model.denoise(x, modulation, text)
    found = profiler.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in found if event.name() == "[memory]")
    held = peak = 0
    for _, count in changes:
        held += count
        peak = max(peak, held)
    assert peak > 0
    assert peak <= 1.03 * denoise_bytes(config, x.shape, dtype.itemsize) <= 1.6 * peak


def test_the_text_is_there_once_for_all_clips_of_a_batch():
    config = TransformerConfig(width=24, depth=2, heads=2, ff_width=32, in_channels=4, text_width=16, text="cross")
    model = VideoDiT(config)
    objective = model_objective(config)
    prompts = [Prompt(torch.randn(1, 5, 16), torch.ones(1, 5, dtype=torch.bool)) for _ in range(2)]
    plan = combine(model, objective, make_sigmas(objective, 3), *prompts)
    many = Denoiser(model, objective, plan, 2.0, batch=8)
    assert {len(keys) for keys, _ in many.both.text.pairs} == {2}
