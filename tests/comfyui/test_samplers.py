"""Our model in core's samplers, schedulers, guiders and model patches, through POST /prompt of a real ComfyUI."""

from __future__ import annotations

import pytest

# Not every name is in every version: those that a version lacks are passed over.
SCHEDULERS = {
    "KarrasScheduler": {"steps": 3}, "ExponentialScheduler": {"steps": 3}, "PolyexponentialScheduler": {"steps": 3},
    "VPScheduler": {"steps": 3}, "LaplaceScheduler": {"steps": 3}, "AlignYourStepsScheduler": {"steps": 10},
    "GITSScheduler": {"steps": 4}, "OptimalStepsScheduler": {"steps": 4}, "LTXVScheduler": {"steps": 3},
}  # fmt: skip
OF_MODEL = {"BetaSamplingScheduler": {"steps": 3}, "SDTurboScheduler": {"steps": 2}}
SAMPLERS = (
    "SamplerEulerAncestral", "SamplerEulerAncestralCFGPP", "SamplerLMS", "SamplerDPMPP_2M_SDE", "SamplerDPMPP_SDE",
    "SamplerDPMPP_3M_SDE", "SamplerDPMPP_2S_Ancestral", "SamplerDPMAdaptative", "SamplerER_SDE", "SamplerSASolver",
    "SamplerSEEDS2",
)  # fmt: skip
PATCHES = {
    "ModelSamplingSD3": {}, "ModelSamplingAuraFlow": {}, "ModelSamplingFlux": {"width": 48, "height": 32},
    "ModelSamplingLTXV": {}, "ModelSamplingContinuousEDM": {"sampling": "v_prediction"}, "RescaleCFG": {},
    "CFGZeroStar": {}, "CFGNorm": {}, "RenormCFG": {"renorm_cfg": 0.5, "cfg_trunc": 100.0}, "Mahiro": {}, "APG": {},
    "TCFG": {}, "Epsilon Scaling": {"scaling_factor": 1.1}, "EasyCache": {"reuse_threshold": 2.0}, "LazyCache": {},
    "DifferentialDiffusion": {}, "ModelComputeDtype": {"dtype": "fp32"}, "FreSca": {}, "TomePatchModel": {},
    "LoraLoaderModelOnly": {"lora_name": "small.safetensors"}, "UNetTemporalAttentionMultiply": {},
    "ContextWindowsManual": {"context_length": 2, "context_overlap": 1, "dim": 2},
}  # fmt: skip
MERGES = {
    "ModelMergeSimple": {"ratio": 0.5}, "ModelMergeAdd": {}, "ModelMergeSubtract": {},
    "ModelMergeBlocks": {"input": 0.5, "middle": 0.5, "out": 0.5},
}  # fmt: skip


def test_every_sampler_of_ksampler(comfy):
    names = comfy.kinds["KSampler"]["input"]["required"]["sampler_name"][0]
    failed = {}
    for name in names:
        graph = comfy.graph()
        at = graph.start()
        entry = comfy.wait(comfy.queue(graph.show(at, graph.sample(at, sampler_name=name, steps=4))))
        if entry["status"]["status_str"] != "success":
            failed[name] = comfy.told(entry)
    assert failed == {} and len(names) > 30


@pytest.mark.parametrize("model", ["flow", "epsilon", "v"])
def test_every_scheduler_of_ksampler(comfy, model):
    names = comfy.kinds["KSampler"]["input"]["required"]["scheduler"][0]
    graph = comfy.graph()
    at = graph.start(f"{model}.safetensors")
    for name in names:
        graph.show(at, graph.sample(at, scheduler=name))
    assert len(comfy.files(comfy.run(graph.prompt))) == 9 * len(names)


def custom(graph, at, sigmas=None, sampler=None, guider=None):
    """SamplerCustomAdvanced with what is given, and plain parts for the rest."""
    given = {"model": at["native"], "positive": at["positive"], "negative": at["negative"]}
    sigmas = sigmas or graph("BasicScheduler", model=at["native"], scheduler="simple", steps=4)
    sampler = sampler or graph("KSamplerSelect", sampler_name="euler")
    guider = guider or graph("CFGGuider", **given, cfg=4.0)
    noise = graph("RandomNoise", noise_seed=3)
    wires = {"noise": noise, "guider": guider, "sampler": sampler, "sigmas": sigmas, "latent_image": at["latent"]}
    return graph.show(at, graph("SamplerCustomAdvanced", **wires)[0])


@pytest.mark.parametrize("name", [*SCHEDULERS, *OF_MODEL])
def test_scheduler_nodes(comfy, name):
    if name not in comfy.kinds:
        pytest.skip("not in this version")
    graph = comfy.graph()
    at = graph.start()
    given = SCHEDULERS.get(name) or {"model": at["native"]} | OF_MODEL[name]
    custom(graph, at, graph(name, **given))
    comfy.run(graph.prompt)


def test_sigmas_are_cut_turned_and_used_by_our_own_loop(comfy):
    graph = comfy.graph()
    at = graph.start()
    sigmas = graph("BasicScheduler", model=at["native"], scheduler="beta", steps=6)
    high, low = graph("SplitSigmas", sigmas=sigmas, step=3)
    half = graph("SplitSigmasDenoise", sigmas=sigmas, denoise=0.5)[1]
    first = graph("SetFirstSigma", sigmas=sigmas, sigma=1.0)
    more = graph("ExtendIntermediateSigmas", sigmas=sigmas)
    for one in (high, low, half, first, more):
        custom(graph, at, one)
        plan = graph(
            "SoraDiTTimestepConditioning", model=at["model"], positive=at["positive"], negative=at["negative"],
            sigmas=one,
        )[0]  # fmt: skip
        latent = graph("SoraDiTDenoise", model=at["model"], conditioning=plan, latent=at["latent"], seed=1)
        graph("PreviewImage", images=graph("SoraDiTDecode", vae=at["vae"], latent=latent))
    comfy.run(graph.prompt)


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_nodes(comfy, name):
    if name not in comfy.kinds:
        pytest.skip("not in this version")
    graph = comfy.graph()
    at = graph.start()
    given = {"model": at["native"], "simple_order_2": False, "use_pece": False}
    given = {wire: value for wire, value in given.items() if wire in comfy.kinds[name]["input"].get("required", {})}
    comfy.run(custom(graph, at, sampler=graph(name, **given)))


@pytest.mark.parametrize("name", ["BasicGuider", "DualCFGGuider", "PerpNegGuider", "VideoLinearCFGGuidance"])
def test_guiders(comfy, name):
    graph = comfy.graph()
    at = graph.start()
    empty = graph("CLIPTextEncode", clip=at["clip"], text="")
    given = {"model": at["native"], "positive": at["positive"], "negative": at["negative"]}
    if name == "BasicGuider":
        guider = graph(name, model=at["native"], conditioning=at["positive"])
    elif name == "DualCFGGuider":
        guider = graph(name, model=at["native"], cond1=at["positive"], cond2=at["negative"], negative=empty)
    elif name == "PerpNegGuider":
        guider = graph(name, **given, empty_conditioning=empty)
    else:
        at["native"] = graph(name, model=at["native"])
        guider = graph("CFGGuider", **(given | {"model": at["native"]}))
    comfy.run(custom(graph, at, guider=guider))


@pytest.mark.parametrize("name", PATCHES)
def test_model_patches(comfy, name):
    if name not in comfy.kinds:
        pytest.skip("not in this version")
    graph = comfy.graph()
    at = graph.start()
    at["native"] = graph(name, model=at["native"], **PATCHES[name])
    if isinstance(at["native"], tuple):
        at["native"] = at["native"][0]
    comfy.run(graph.show(at, graph.sample(at, steps=6)))


@pytest.mark.parametrize("name", MERGES)
def test_merges(comfy, name):
    graph = comfy.graph()
    at, other = graph.start(), graph.start("v.safetensors")
    at["native"] = graph(name, model1=at["native"], model2=other["native"], **MERGES[name])
    comfy.run(graph.show(at, graph.sample(at)))


def test_two_stages_of_ksampler_advanced(comfy):
    graph = comfy.graph()
    at = graph.start()
    given = {"model": at["native"], "positive": at["positive"], "negative": at["negative"], "noise_seed": 4}
    given |= {"steps": 6, "cfg": 3.0, "sampler_name": "dpmpp_2m", "scheduler": "simple"}
    first = graph("KSamplerAdvanced", **given, latent_image=at["latent"], start_at_step=0, end_at_step=3,
                  add_noise="enable", return_with_leftover_noise="enable")  # fmt: skip
    second = graph("KSamplerAdvanced", **given, latent_image=first, start_at_step=3, end_at_step=10000,
                   add_noise="disable", return_with_leftover_noise="disable")  # fmt: skip
    comfy.run(graph.show(at, second))


def test_a_lora_for_both_parts(comfy):
    graph = comfy.graph()
    at = graph.start()
    plain = graph.sample(at)
    model, clip = graph(
        "LoraLoader", model=at["native"], clip=at["clip"], lora_name="small.safetensors", strength_model=0.0,
        strength_clip=1.0,
    )  # fmt: skip
    changed = graph.sample(at, model=model, positive=graph("CLIPTextEncode", clip=clip, text="a red balloon"))
    for samples in (plain, changed):
        graph.show(at, samples)
    shown = list(comfy.run(graph.prompt)["outputs"].values())
    first, second = (comfy.fetch(one["images"][4]) for one in shown)
    assert first != second  # the text encoder's part of the LoRA reached the prompt
    assert "NOT LOADED" not in comfy.log.read_text()
