"""The video diffusion transformer: one class for every configuration (DiT arXiv:2212.09748; PixArt arXiv:2310.00426;
Wan arXiv:2503.20314; Sora technical report 2024)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import ShapeError
from .blocks import Block, FinalLayer
from .config import TransformerConfig
from .embed import TimestepEmbedding, TwoLayer, frame_position
from .patch import grid_of, pad_to_patches, patchify, unpatchify
from .rope import rotary_table


@dataclass(frozen=True)
class Modulation:
    """Scale, shift and gate vectors of every block for N timesteps; depends on step and pooled text only."""

    blocks: Tensor  # [N, depth, 6, D]
    final: Tensor  # [N, 2, D]
    skip: Tensor | None = None  # [N, C], how much of the input joins the prediction; see `gaussian_skip`

    def select(self, index: Tensor) -> Modulation:
        """Rows `index` [B, t]: what `denoise` takes, [B, t, depth, 6, D], [B, t, 2, D] and [B, t, C]."""
        return self.map(lambda x: x[index])

    def unflatten(self, shape: tuple[int, ...]) -> Modulation:
        """Split the rows [N, ...] into [*shape, ...]."""
        return self.map(lambda x: x.unflatten(0, shape))

    @staticmethod
    def join(parts: Sequence[Modulation]) -> Modulation:
        """The rows of all parts, one after the other."""
        skip = None if parts[0].skip is None else torch.cat([p.skip for p in parts])
        return Modulation(torch.cat([p.blocks for p in parts]), torch.cat([p.final for p in parts]), skip)

    def map(self, change: Callable[[Tensor], Tensor]) -> Modulation:
        """`change` done to each tensor."""
        return Modulation(change(self.blocks), change(self.final), None if self.skip is None else change(self.skip))


@dataclass(frozen=True)
class TextKeyValues:
    """Keys and values of every block for one batch of prompts; depends on the text only."""

    pairs: tuple[tuple[Tensor, Tensor], ...]  # depth times ([B, M, heads, d], [B, M, heads, d])
    mask: Tensor | None  # [B, M] bool, None = all tokens count

    def map(self, change: Callable[[Tensor], Tensor]) -> TextKeyValues:
        """`change` done to each tensor."""
        pairs = tuple((change(keys), change(values)) for keys, values in self.pairs)
        return TextKeyValues(pairs, None if self.mask is None else change(self.mask))

    def expand(self, batch: int) -> TextKeyValues:
        """Repeat a single prompt for `batch` clips, without copying."""
        if not self.pairs or self.pairs[0][0].shape[0] == batch:
            return self
        return self.map(lambda x: x.expand(batch, *x.shape[1:]))


def gaussian_skip(sigma: Tensor, std: tuple[float, ...]) -> Tensor:
    """Share of a noisy latent that is its best linear estimate of the flow velocity: sigma [N], std of C channels.

    With x = (1 - sigma) x0 + sigma n and x0 of variance s^2, E[n - x0 | x] = k x with
    k = (sigma - (1 - sigma) s^2) / ((1 - sigma)^2 s^2 + sigma^2). It plays the part of the skip connection of
    Karras et al. (arXiv:2206.00364, section 5) for rectified flow. Returns [N, C], float32.
    """
    sigma = sigma.float()[:, None]
    variance = torch.tensor(std, device=sigma.device).square()
    return (sigma - (1 - sigma) * variance) / ((1 - sigma).square() * variance + sigma.square())


class VideoDiT(nn.Module):
    """Predicts velocity, noise or v from a noisy latent video.

    Use `forward` in training. A sampler calls `prepare_text` and `modulate` once and `denoise` at each step.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        c = self.config = config
        pt, ph, pw = c.patch
        self.patch_in = nn.Linear(c.in_channels * pt * ph * pw, c.width)
        self.place = nn.Linear(4 * c.frame_position, c.width, bias=False) if c.frame_position else None
        self.timestep = TimestepEmbedding(c.timestep_encoding, c.timestep_width, c.width)
        self.pooled = TwoLayer(c.pooled_width or c.text_width, c.width) if c.uses_pooled else None
        self.text_in = TwoLayer(c.text_width, c.width, "gelu") if c.uses_cross and c.text_projection else None
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.depth))
        self.final = FinalLayer(c)
        if c.modulation == "per_block":
            # one product for all blocks and the last layer
            self.modulation = nn.Linear(c.width, (6 * c.depth + 2) * c.width)
        else:
            self.modulation = nn.Linear(c.width, 6 * c.width)
            self.block_table = nn.Parameter(torch.empty(c.depth, 6, c.width))
            self.final_table = nn.Parameter(torch.empty(2, c.width))
        self.gradient_checkpointing = False
        self._tables: dict[tuple, Tensor] = {}
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initial weights of DiT: Xavier for products, zero for what makes a block the identity (adaLN-Zero)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.place is not None:
            nn.init.zeros_(self.place.weight)
        nn.init.zeros_(self.final.projection.weight)
        nn.init.zeros_(self.modulation.weight)
        if self.config.modulation == "shared":
            self._start_with_open_gates()
        else:
            for linear in (self.timestep.mlp.inner, self.timestep.mlp.outer):
                nn.init.normal_(linear.weight, std=0.02)
        for block in self.blocks:
            if block.text_attention is not None:
                nn.init.zeros_(block.text_attention.out.weight)

    def _start_with_open_gates(self) -> None:
        # Blocks start as the identity here too, by zero output products instead of zero gates: gates that start near
        # zero throttle all gradients behind them, and a small model loses a third of a short training to it.
        for table in (self.block_table, self.final_table):
            nn.init.zeros_(table)
        with torch.no_grad():
            self.block_table[:, (2, 5)] = 1.0
        for block in self.blocks:
            nn.init.zeros_(block.attention.out.weight)
            nn.init.zeros_(block.feed_forward.outer.weight)

    # -- what does not depend on the noisy latent -------------------------------------------------------------------

    def prepare_text(self, context: Tensor | None, mask: Tensor | None = None) -> TextKeyValues:
        """Keys and values of all blocks. context [B, M, text_width], mask [B, M] bool (True = a real token)."""
        if not self.config.uses_cross:
            return TextKeyValues((), None)
        if context is None or context.ndim != 3 or context.shape[-1] != self.config.text_width:
            got = "nothing" if context is None else f"a tensor of shape {tuple(context.shape)}"
            raise ShapeError(
                f"Text conditioning: got {got}; this model was trained with text embeddings of size "
                f"{self.config.text_width}, shape [batch, tokens, {self.config.text_width}]."
            )
        if self.text_in is not None:
            context = self.text_in(context)
        return TextKeyValues(tuple(b.text_attention.project(context) for b in self.blocks), mask)

    def modulate(self, timesteps: Tensor, pooled: Tensor | None = None) -> Modulation:
        """All modulation vectors for `timesteps` [N] (0 to timestep_scale), pooled text [N or 1, pooled_width]."""
        c = self.config
        vector = self.timestep(timesteps)  # [N, D]
        if c.uses_pooled:
            width = c.pooled_width or c.text_width
            if pooled is None or pooled.shape[-1] != width:
                got = "nothing" if pooled is None else f"size {pooled.shape[-1]}"
                raise ShapeError(f"Pooled text conditioning: got {got}; this model expects a vector of size {width}.")
            vector = vector + self.pooled(pooled)
        values = self.modulation(F.silu(vector))
        skip = None if c.skip_std is None else gaussian_skip(timesteps / c.timestep_scale, c.skip_std)
        if c.modulation == "per_block":
            values = values.unflatten(-1, (6 * c.depth + 2, c.width))
            return Modulation(values[:, :-2].unflatten(1, (c.depth, 6)), values[:, -2:], skip)
        # `.to`: memory management that offloads parts of a model leaves such bare parameters where they are
        blocks = values.unflatten(-1, (1, 6, c.width)) + self.block_table.to(values)
        return Modulation(blocks, vector[:, None] + self.final_table.to(vector), skip)

    def rope(self, grid: tuple[int, int, int], device: torch.device) -> Tensor:
        """Rotary table of a grid of tokens, made once per shape and device."""
        c = self.config
        return self._kept(("rope", grid, device), lambda: rotary_table(grid, c.head_width, c.rope_theta, device))

    def places(self, grid: tuple[int, int], device: torch.device) -> Tensor:
        """Waves that tell the tokens of a frame (rows, columns) where they are, made once per shape and device."""
        return self._kept(("places", grid, device), lambda: frame_position(grid, self.config.frame_position, device))

    def _kept(self, key: tuple, make: Callable[[], Tensor]) -> Tensor:
        key = (*key[:-1], str(key[-1]))
        if key not in self._tables:
            if len(self._tables) > 8:
                self._tables.clear()
            with torch.inference_mode(False):
                self._tables[key] = make()
        return self._tables[key]

    # -- what does ---------------------------------------------------------------------------------------------------

    def denoise(self, x: Tensor, modulation: Modulation, text: TextKeyValues) -> Tensor:
        """One pass. x [B, C, T, H, W]; modulation [B, t or 1, ...] from `Modulation.select` -> [B, out, T, H, W].

        text: of B prompts, or of fewer, each for as many clips that lie one after the other (P prompts, B / P clips).
        """
        c = self.config
        if x.ndim != 5 or x.shape[1] != c.in_channels:
            raise ShapeError(
                f"Latent: got shape {tuple(x.shape)}; this model expects [batch, {c.in_channels}, frames, "
                "height, width]."
            )
        size = x.shape[-3:]
        grid = grid_of(size, c.patch)
        h = self.patch_in(patchify(pad_to_patches(x, c.patch), c.patch))  # [B, t, n, D]
        if self.place is not None:
            h = h + self.place(self.places(grid[1:], x.device).to(h))
        rope = self.rope(grid, x.device)
        for i, block in enumerate(self.blocks):
            args = (h, modulation.blocks[:, :, i], rope, text.pairs[i] if text.pairs else None, text.mask)
            if self.gradient_checkpointing and torch.is_grad_enabled():
                h = checkpoint(block, *args, use_reentrant=False)
            else:
                h = block(*args)
        out = unpatchify(self.final(h, modulation.final), c.patch, grid)
        out = out[..., : size[0], : size[1], : size[2]]
        if modulation.skip is None:
            return out
        skip = modulation.skip  # [B, t or 1, C]
        if skip.shape[1] > 1:
            skip = skip.repeat_interleave(c.patch[0], 1)[:, : size[0]]
        return torch.addcmul(out.float(), skip.mT[..., None, None], x.float())

    def frame_timesteps(self, timesteps: Tensor, frames: int) -> Tensor:
        """[B] or [B, T] -> [B, 1] or [B, t] for t temporal patches; a patch is as noisy as its noisiest frame."""
        if timesteps.ndim == 1:
            return timesteps[:, None]
        if timesteps.shape[1] != frames:
            raise ShapeError(
                f"Timesteps: got {timesteps.shape[1]} per clip; expected one, or one for each of the "
                f"{frames} latent frames."
            )
        step = self.config.patch[0]
        if step == 1:
            return timesteps
        return F.pad(timesteps, (0, -frames % step), value=float("-inf")).unflatten(1, (-1, step)).amax(-1)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        pooled: Tensor | None = None,
    ) -> Tensor:
        """x [B, C, T, H, W], timesteps [B] or [B, T], context [B, M, text_width], mask [B, M], pooled [B, width]."""
        t = self.frame_timesteps(timesteps, x.shape[2])  # [B, t or 1]
        if pooled is not None:
            pooled = pooled[:, None].expand(-1, t.shape[1], -1).flatten(0, 1)
        m = self.modulate(t.flatten(), pooled)
        return self.denoise(x, m.unflatten(t.shape), self.prepare_text(context, context_mask))
