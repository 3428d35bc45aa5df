"""The inputs of Training Options, in three groups. No torch."""

from __future__ import annotations

from typing import Any

from ._training_inputs import choice, number, switch, whole


def steps() -> list[Any]:
    """How a step is made, and how the learning rate moves."""
    return [
        choice(
            "schedule", ["wsd", "cosine", "constant"],
            "How the learning rate moves. wsd: up, then steady, then down over the last part: can be prolonged well. "
            "cosine: falls all the time. constant: stays; for trying out.",
        ),
        whole("warmup", 60, 0, 100_000, "Steps over which the learning rate rises from 0, 0 to 100000; at most a "
              "tenth of all steps are taken."),
        number("decay", 0.3, 0.0, 1.0, "Last share of the steps over which the rate falls with wsd, 0 to 1. The loss "
               "drops visibly there.", step=0.05),
        whole("accumulate", 1, 1, 1024, "Batches that make one step together, 1 to 1024: as good as a batch so many "
              "times larger, in the memory of one, and takes so many times longer."),
        number("clip_gradient", 1.0, 0.01, 1000.0, "Gradients longer than this are shortened to it, 0.01 to 1000. "
               "Lower is calmer; too low learns slowly.", step=0.1, display_name="clip gradient at"),
        number("weight_decay", 0.01, 0.0, 1.0, "How strongly weights are pulled to 0, 0 to 1. A little keeps long "
               "trainings healthy; LoRAs are not pulled.", display_name="weight decay"),
        number("ema", 0.0, 0.0, 0.99999, "Share of the old in the moving average of the weights, which is what you "
               "get, 0 to 0.99999. 0 takes 0.999 for a model and 0.99 for a LoRA; 0.999 averages over about 1000 "
               "steps.", step=0.001, display_name="average (EMA)"),
    ]  # fmt: skip


def draws() -> list[Any]:
    """What is drawn at random for each clip, and what is held out."""
    return [
        number("caption_dropout", 0.1, 0.0, 1.0, "Share of the clips that are shown without words, 0 to 1: guidance "
               "(cfg) compares with what is learned from them. 0.1 is usual.", step=0.05,
               display_name="caption dropout"),
        number("known_frames", 0.3, 0.0, 1.0, "Share of the clips of which some frames are given, 0 to 1: so the model "
               "learns to continue clips, to join them and to start from a picture. 0: only from noise.", step=0.05,
               display_name="known frames"),
        choice("timesteps", ["logit-normal", "uniform"], "Which noise levels are trained most. logit-normal: the "
               "middle ones, which decide most. uniform: all alike."),
        number("held_out", 0.1, 0.0, 0.9, "Share of the clips that are never trained on, to measure on, 0 to 0.9. When "
               "their loss rises while the other falls, the model learns clips by heart: stop there.", step=0.05,
               display_name="held out"),
        whole("held_out_every", 100, 0, 1_000_000, "Steps between measurements on held-out clips, 0 to 1000000; 0 "
              "never.", display_name="measure every"),
    ]  # fmt: skip


def machine() -> list[Any]:
    """Memory, speed and safety."""
    return [
        choice("precision", ["auto", "float32", "bfloat16"], "Type of numbers in products; weights stay in float32. "
               "auto takes bfloat16 where the machine is faster with it. float32 is exact and slower."),
        switch("checkpointing", False, "Keep less in memory and compute it twice: a third slower, with room for far "
               "larger batches.", display_name="save memory"),
        switch("compile", False, "Compile the blocks first (torch.compile): a minute or more of waiting, then faster "
               "steps. On a CPU it needs a C++ compiler; on NVIDIA cards with Triton it is done anyway."),
        number("save_every", 120.0, 0.0, 86400.0, "Seconds between saves of the state, 0 to 86400: so much is lost at "
               "most when the power goes. Cancel saves too.", step=10.0, display_name="save every"),
        whole("log_every", 10, 1, 10_000, "Steps from one point of the curves to the next, 1 to 10000. A training has "
              "20 points at least.", display_name="log every"),
    ]  # fmt: skip
