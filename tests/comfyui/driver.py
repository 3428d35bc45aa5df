"""Runs inside a real ComfyUI's Python, without a server: `driver.py COMFYUI_PATH PACK BASE`; prints one JSON object.

Each `check_...` function tries one thing that core nodes must be able to do with our models (or ours with core's).
"""

from __future__ import annotations

import asyncio
import copy
import ctypes
import json
import logging
import os
import sys
import traceback

COMFYUI, PACK, BASE = sys.argv[1:4]
sys.argv = ["main.py", "--cpu", "--base-directory", BASE, "--use-pytorch-cross-attention"]
sys.argv += ["--preview-method", "latent2rgb"]
sys.path.insert(0, COMFYUI)
os.chdir(COMFYUI)
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import comfy.model_management  # noqa: E402
import comfy.utils  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import nodes  # noqa: E402, I001

torch.set_num_threads(1)
logging.getLogger("sora_dit").setLevel(logging.INFO)
asyncio.run(nodes.load_custom_node(PACK, module_parent="custom_nodes"))
extras = (
    "custom_sampler",
    "model_advanced",
    "video",
    "lt",
    "easycache",
    "latent",
    "images",
    "cond",
    "sd3",
    "model_merging",
    "context_windows",
)
for name in extras:
    path = os.path.join(COMFYUI, "comfy_extras", f"nodes_{name}.py")
    if os.path.exists(path):
        asyncio.run(nodes.load_custom_node(path, module_parent="comfy_extras"))


def run(name: str, **inputs):
    """Outputs of the node `name` as a tuple."""
    cls = nodes.NODE_CLASS_MAPPINGS[name]
    if hasattr(cls, "PREPARE_CLASS_CLONE"):
        out = cls.PREPARE_CLASS_CLONE({"hidden_inputs": {}}).execute(**inputs)
    else:
        out = getattr(cls(), cls.FUNCTION)(**inputs)
    return out.result if hasattr(out, "result") else out


def load(name: str = "flow.safetensors"):
    """(model, clip, vae, native MODEL, positive, negative, empty latent) of a file."""
    model, clip, vae = run("SoraDiTLoadModel", model=name, device="auto", dtype="auto")
    positive = run("CLIPTextEncode", clip=clip, text="a red balloon")[0]
    negative = run("CLIPTextEncode", clip=clip, text="rain")[0]
    latent = run("SoraDiTEmptyLatent", model=model, width=48, height=32, frames=9, batch_size=1)[0]
    native = run("SoraDiTToComfyModel", model=model)[0]
    return model, clip, vae, native, positive, negative, latent


def ksampler(native, positive, negative, latent, **changes):
    given = {"seed": 5, "steps": 6, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    return run(
        "KSampler", model=native, positive=positive, negative=negative, latent_image=latent, **(given | changes)
    )[0]["samples"]


def ours(model, native, positive, negative, latent, seed=5, cfg=4.0, steps=6, denoise=1.0):
    """Our own nodes on the noise levels of core's `simple` scheduler."""
    sigmas = run("BasicScheduler", model=native, scheduler="simple", steps=steps, denoise=denoise)[0]
    plan = run(
        "SoraDiTTimestepConditioning", model=model, positive=positive, negative=negative, steps=1, schedule="auto",
        shift=0.0, denoise=1.0, sigmas=sigmas,
    )[0]  # fmt: skip
    return run(
        "SoraDiTDenoise", model=model, conditioning=plan, latent=latent, seed=seed, cfg=cfg, sampler="euler"
    )[0]["samples"]  # fmt: skip


def far(a, b) -> float:
    return (a - b).abs().max().item()


def check_ksampler_equals_denoise():
    found = {}
    for kind in ("flow", "epsilon", "v"):
        model, _, _, native, positive, negative, latent = load(f"{kind}.safetensors")
        a, b = ksampler(native, positive, negative, latent), ours(model, native, positive, negative, latent)
        found[kind] = {"far": far(a, b), "size": a.abs().max().item()}
    return found


def check_video_to_video_and_masks():
    model, _, _, native, positive, negative, latent = load()
    torch.manual_seed(0)
    given = {"samples": torch.randn_like(latent["samples"])}
    found = {"half": far(
        ksampler(native, positive, negative, given, denoise=0.5),
        ours(model, native, positive, negative, given, denoise=0.5),
    )}  # fmt: skip
    for name in ("frames", "region"):
        mask = torch.ones(1, 1, *given["samples"].shape[2:])
        if name == "frames":
            mask[:, :, 0] = 0
        else:
            mask[..., :2] = 0
        masked = given | {"noise_mask": mask}
        a, b = ksampler(native, positive, negative, masked), ours(model, native, positive, negative, masked)
        kept = (mask == 0).expand_as(a)
        found[name] = {"far": far(a, b), "kept": far(a[kept], given["samples"][kept])}
    return found


def check_kept_frames_of_other_objectives():
    found = {}
    for kind in ("epsilon", "v"):
        model, _, _, native, positive, negative, latent = load(f"{kind}.safetensors")
        torch.manual_seed(0)
        given = torch.zeros_like(latent["samples"])
        given[:, :, 0] = torch.randn_like(given[:, :, 0])
        mask = torch.ones(1, 1, *given.shape[2:])
        mask[:, :, 0] = 0
        masked = {"samples": given, "noise_mask": mask}
        a, b = ksampler(native, positive, negative, masked), ours(model, native, positive, negative, masked)
        found[kind] = {"far": far(a, b), "size": b.abs().max().item(), "kept": far(a[:, :, 0], given[:, :, 0])}
    return found


def check_own_shift_and_scale():
    model, _, _, native, positive, negative, latent = load("shifted.safetensors")
    levels = run("BasicScheduler", model=native, scheduler="simple", steps=6, denoise=1.0)[0]
    planned = run(
        "SoraDiTTimestepConditioning", model=model, positive=positive, negative=negative, steps=6, schedule="auto",
        shift=0.0, denoise=1.0,
    )[1]  # fmt: skip
    a, b = ksampler(native, positive, negative, latent), ours(model, native, positive, negative, latent)
    return {"levels": far(levels, planned), "far": far(a, b)}


def check_context_windows_with_kept_frames():
    model, _, _, native, positive, negative, _ = load()
    latent = run("SoraDiTEmptyLatent", model=model, width=32, height=32, frames=37, batch_size=1)[0]  # 10 latent frames
    windows = run(
        "ContextWindowsManual", model=native, context_length=4, context_overlap=2, context_schedule="standard_static",
        context_stride=1, closed_loop=False, fuse_method="pyramid", dim=2, freenoise=False,
    )[0]  # fmt: skip
    torch.manual_seed(0)
    given = torch.randn_like(latent["samples"])
    mask = torch.ones(1, 1, *given.shape[2:])
    mask[:, :, 0] = 0
    out = ksampler(windows, positive, negative, {"samples": given, "noise_mask": mask})
    return {"shape": out.shape == given.shape, "kept": far(out[:, :, 0], given[:, :, 0])}


def check_pictures_as_masks_and_numbered_noise():
    model, _, _, native, positive, negative, latent = load()
    torch.manual_seed(0)
    given = {"samples": torch.randn_like(latent["samples"])}
    pictures = torch.ones(8, 32, 48)  # not one for each frame, which our Denoise takes at its word
    pictures[:3, :, 20:] = 0
    masked = run("SetLatentNoiseMask", samples=given, mask=pictures)[0]
    pair = {"samples": torch.cat([latent["samples"]] * 3), "batch_index": [2, 0, 2]}
    return {
        name: far(ksampler(native, positive, negative, one), ours(model, native, positive, negative, one))
        for name, one in (("pictures", masked), ("numbered", pair))
    }


def check_other_samplers_run():
    model, clip, _, native, positive, negative, latent = load()
    shifted = run("ModelSamplingSD3", model=native, shift=5.0)[0]
    sigmas = run("BasicScheduler", model=shifted, scheduler="beta", steps=6, denoise=1.0)[0]
    high, low = run("SplitSigmas", sigmas=sigmas, step=3)
    guider = run("CFGGuider", model=shifted, positive=positive, negative=negative, cfg=3.0)[0]
    noise = run("RandomNoise", noise_seed=5)[0]
    sampler = run("KSamplerSelect", sampler_name="dpmpp_2m")[0]
    out = run(
        "SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=high, latent_image=latent
    )[0]  # fmt: skip
    out = run(
        "SamplerCustomAdvanced", noise=run("DisableNoise")[0], guider=guider, sampler=sampler, sigmas=low,
        latent_image=out,
    )[0]["samples"]  # fmt: skip
    cached = run(
        "EasyCache", model=native, reuse_threshold=3.0, start_percent=0.0, end_percent=1.0, verbose=False
    )[0]  # fmt: skip
    plain, skipped = (ksampler(one, positive, negative, latent, steps=12) for one in (native, cached))
    longer = run("CLIPTextEncode", clip=clip, text="rain and a very much longer prompt than before")[0]
    joined = ksampler(native, positive, longer, latent)
    return {
        "finite": all(bool(x.isfinite().all()) for x in (out, skipped, joined)),
        "skipping changes it": far(plain, skipped),
    }


def check_loras():
    model, _, _, native, positive, negative, latent = load()
    weight = model.module.blocks[0].feed_forward.inner.weight
    torch.manual_seed(1)
    down, up = torch.randn(2, weight.shape[1]), torch.randn(weight.shape[0], 2)
    folder = os.path.join(BASE, "models", "loras")
    os.makedirs(folder, exist_ok=True)
    key = "diffusion_model.blocks.0.feed_forward.inner"
    save_file({f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up}, os.path.join(folder, "one.safetensors"))
    before = ksampler(native, positive, negative, latent)
    patched = run("LoraLoaderModelOnly", model=native, lora_name="one.safetensors", strength_model=0.5)[0]
    with_lora = ksampler(patched, positive, negative, latent)
    after = ksampler(native, positive, negative, latent)
    own_after = ours(model, native, positive, negative, latent)
    with torch.inference_mode(False), torch.no_grad():  # the same change made by hand
        weight += 0.5 * up @ down
        by_hand = ksampler(native, positive, negative, latent)
        weight -= 0.5 * up @ down
    return {
        "changes": far(before, with_lora), "as by hand": far(with_lora, by_hand), "comes off": far(before, after),
        "ours after": far(before, own_after),
    }  # fmt: skip


def check_own_lora_equals_cores():
    model, _, _, native, positive, negative, latent = load()
    folder = os.path.join(BASE, "models", "loras")
    os.makedirs(folder, exist_ok=True)
    torch.manual_seed(2)
    tensors = {}
    for layer in ("blocks.0.attention.qkv", "blocks.1.text_attention.kv", "modulation", "final.projection"):
        out, width = model.module.get_submodule(layer).weight.shape
        tensors[f"diffusion_model.{layer}.lora_A.weight"] = torch.randn(2, width) * 0.3
        tensors[f"diffusion_model.{layer}.lora_B.weight"] = torch.randn(out, 2) * 0.3
        tensors[f"diffusion_model.{layer}.alpha"] = torch.tensor(1.0)
    save_file(tensors, os.path.join(folder, "two.safetensors"))
    before = ours(model, native, positive, negative, latent)
    patched = run("LoraLoaderModelOnly", model=native, lora_name="two.safetensors", strength_model=0.7)[0]
    core = ksampler(patched, positive, negative, latent)  # core's change is now in the weights that both share
    changed = run("SoraDiTLoadLora", model=model, lora="two.safetensors", strength=0.7)[0]
    bridge = run("SoraDiTToComfyModel", model=changed)[0]
    own = ours(changed, bridge, positive, negative, latent)
    sampled = ksampler(bridge, positive, negative, latent)
    pairs = zip(model.module.parameters(), changed.module.parameters(), strict=True)
    found = {"own": far(core, own), "sampled": far(core, sampled), "changes": far(before, own),
             "copied": sum(p.data_ptr() != q.data_ptr() for p, q in pairs)}  # fmt: skip
    bridge.load(torch.device("cpu"), lowvram_model_memory=1)
    comfy.model_management.unload_all_models()
    found["base"] = far(before, ours(model, native, positive, negative, latent))
    found["core again"] = far(core, ksampler(patched, positive, negative, latent))
    found["own again"] = far(core, ours(changed, bridge, positive, negative, latent))
    options = nodes.NODE_CLASS_MAPPINGS["SoraDiTLoadLora"].INPUT_TYPES()["required"]["lora"]
    found["listed"] = "two.safetensors" in str(options)
    return found


def check_text_loras_and_merges():
    _, clip, *_ = load()
    _, other, *_ = load("v.safetensors")

    def cond(one):
        return one.encode_from_tokens(one.tokenize("a red balloon"))

    before, there = cond(clip), cond(other)
    patched = run("LoraLoader", model=None, clip=clip, lora_name="small.safetensors", strength_model=0.0,
                  strength_clip=0.5)[1]  # fmt: skip
    changed = cond(patched)
    after = cond(clip)
    name = "encoder.block.0.layer.0.SelfAttention.q"
    weight = clip.encoder.module.get_submodule(name).weight
    lora = comfy.utils.load_torch_file(os.path.join(BASE, "models", "loras", "small.safetensors"))
    up, down = (lora[f"text_encoders.inner.{name}.lora_{side}.weight"] for side in "BA")
    with torch.inference_mode(False), torch.no_grad():
        weight += 0.5 * up @ down
        by_hand = cond(clip)
        weight -= 0.5 * up @ down
    whole = run("CLIPMergeSimple", clip1=clip, clip2=other, ratio=0.0)[0]
    return {"changes": far(before, changed), "by hand": far(changed, by_hand), "comes off": far(before, after),
            "merged": far(cond(whole), there), "own again": far(before, cond(clip))}  # fmt: skip


def check_out_of_memory_in_decode():
    _, _, vae, *_ = load()
    torch.manual_seed(0)
    latent = {"samples": torch.randn(1, 6, 5, 4, 6)}
    whole = run("SoraDiTDecode", vae=vae, latent=latent, chunk_frames=0)[0]
    decode, calls, told = vae.first_stage_model.decode_chunks, [], []

    def fails_once(parts):
        parts = list(parts)
        calls.append([part.shape[2] for part in parts])
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return decode(iter(parts))

    vae.first_stage_model.decode_chunks = fails_once
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    logging.getLogger("sora_dit").addHandler(handler)
    small = run("SoraDiTDecode", vae=vae, latent=latent, chunk_frames=0)[0]
    del vae.first_stage_model.decode_chunks
    return {"calls": calls, "far": far(whole, small), "told": told}


def check_copy_to_train():
    """What ComfyUI keeps on layers (handles of the memory that it manages) cannot be copied, and is not needed."""
    model, *_ = load()
    layer = model.module.blocks[0].feed_forward.inner
    layer._v = (ctypes.CFUNCTYPE(None)(), 0, 1)
    other = copy.deepcopy(model.module)
    del layer._v
    kinds = sorted({type(one).__module__ for one in other.modules() if type(one).__name__ in ("Linear", "LayerNorm")})
    held = model.module.state_dict()
    same = all(torch.equal(value, held[name]) for name, value in other.state_dict().items())
    shared = {p.data_ptr() for p in other.parameters()} & {p.data_ptr() for p in model.module.parameters()}
    left = [name for one in other.modules() for name in vars(one) if name in ("_v", "comfy_cast_weights")]
    return {"kinds": kinds, "same": same, "shared": len(shared), "left": left, "class": type(other).__name__}


def check_offload():
    model, _, vae, native, positive, negative, latent = load()
    whole = ksampler(native, positive, negative, latent)
    native.load(torch.device("cpu"), lowvram_model_memory=1)  # nothing fits: every layer is fetched when it is used
    parts = sum(1 for m in model.module.modules() if getattr(m, "comfy_cast_weights", False))
    partial = ksampler(native, positive, negative, latent)
    own = ours(model, native, positive, negative, latent)
    comfy.model_management.unload_all_models()
    again = ours(model, native, positive, negative, latent)
    return {"layers": parts, "far": max(far(whole, x) for x in (partial, own, again)),
            "patchers": [type(one.patcher).__name__ for one in (model.weights, vae)],
            "memory": native.model.memory_required([2, *latent["samples"].shape[1:]])}  # fmt: skip


def check_release():
    import gc
    import weakref

    model, clip, vae, native, *_ = load()
    watched = [weakref.ref(model.module), weakref.ref(vae.first_stage_model)]
    del model, clip, vae, native, _
    comfy.model_management.unload_all_models()
    gc.collect()
    return {"alive": sum(one() is not None for one in watched)}


def check_vae():
    _, _, vae, _, _, _, latent = load()
    torch.manual_seed(0)
    images = torch.rand(9, 32, 48, 3)
    samples = run("VAEEncode", vae=vae, pixels=images)[0]["samples"]
    core = run("VAEDecode", vae=vae, samples={"samples": samples})[0]
    tiled = run(
        "VAEDecodeTiled", vae=vae, samples={"samples": samples}, tile_size=512, overlap=64, temporal_size=8,
        temporal_overlap=4,
    )[0]  # fmt: skip
    own = run("SoraDiTDecode", vae=vae, latent={"samples": samples}, chunk_frames=0)[0]
    encoded = run("SoraDiTEncode", vae=vae, images=images, fit="error")[0]["samples"]
    return {"shape": list(core.shape), "decode": far(core, own), "tiled": far(tiled, own),
            "encode": far(encoded, samples)}  # fmt: skip


def check_core_vae_in_our_nodes():
    from comfy.sd import VAE
    from comfy.taesd.taesd import TAESD

    torch.manual_seed(0)
    weights = {name: torch.randn(value.shape) * 0.05 for name, value in TAESD().state_dict().items()}
    picture_vae = VAE(sd=weights)  # 4 channels, one picture at a time
    images = torch.rand(5, 32, 48, 3)
    latent = run("SoraDiTEncode", vae=picture_vae, images=images, fit="error")[0]["samples"]
    frames = run("SoraDiTDecode", vae=picture_vae, latent={"samples": latent}, chunk_frames=0)[0]
    flat = latent.transpose(1, 2).flatten(0, 1)
    empty = run("SoraDiTEmptyLatent", model=picture_vae, width=48, height=32, frames=5, batch_size=1)[0]["samples"]
    return {"latent": list(latent.shape), "frames": list(frames.shape), "empty": list(empty.shape),
            "far": far(frames, picture_vae.decode(flat))}  # fmt: skip


def check_wires():
    model, clip, vae, native, positive, negative, latent = load()
    both = run("ConditioningCombine", conditioning_1=positive, conditioning_2=negative)[0]
    combined = far(ksampler(native, both, negative, latent), ours(model, native, both, negative, latent))
    zero = run("ConditioningZeroOut", conditioning=positive)[0]
    zeroed = far(ksampler(native, positive, zero, latent), ours(model, native, positive, zero, latent))
    batch = run("LatentBatch", samples1=latent, samples2=latent)[0]
    two = ours(model, native, positive, negative, batch)
    return {"combined": combined, "zeroed": zeroed, "batch": list(two.shape)}


def check_previews():
    seen = []
    comfy.utils.set_progress_bar_global_hook(lambda value, total, preview, node_id=None: seen.append(preview))
    model, _, _, native, positive, negative, latent = load()
    ours(model, native, positive, negative, latent)
    own = [one[1].size for one in seen if one]
    seen.clear()
    ksampler(native, positive, negative, latent)
    core = [one[1].size for one in seen if one]
    comfy.utils.set_progress_bar_global_hook(None)
    return {"own": own, "core": core}


def check_wrong_things_are_said():
    def said(work) -> str:
        try:
            work()
        except Exception as error:
            return str(error)
        return "nothing"

    _, _, _, native, positive, _, latent = load()
    _, other_clip, *_ = load("wide.safetensors")
    foreign = run("CLIPTextEncode", clip=other_clip, text="sea")[0]
    return {
        "encoder": said(lambda: ksampler(native, foreign, positive, latent)),
        "vae": said(lambda: run("VAEDecode", vae=load()[2], samples={"samples": torch.zeros(1, 16, 3, 4, 6)})),
    }


results = {}
with torch.inference_mode():
    for name, check in [(n, f) for n, f in globals().items() if n.startswith("check_")]:
        try:
            results[name[6:]] = check()
        except Exception:
            results[name[6:]] = {"error": traceback.format_exc()}
print("RESULT " + json.dumps(results))
