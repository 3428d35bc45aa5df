"""The transformer block and the last layer: each line of a forward carries its shape."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import TransformerConfig
from .layers import FeedForward, SelfAttention, TextAttention


def modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Layer norm without weights, then scale and shift (adaLN, arXiv:2212.09748).

    x [B, t, n, D] (n tokens in each of t latent frames); shift and scale [B, t or 1, 1, D].
    """
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=eps), 1 + scale)


class Block(nn.Module):
    """Modulated self-attention, text attention, modulated feed-forward; each adds to the stream x."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        c = config
        self.eps = c.norm_eps
        self.attention = SelfAttention(c.width, c.heads, c.qk_norm, c.norm_eps)
        self.feed_forward = FeedForward(c.width, c.ff_width, c.feed_forward)
        self.text_attention: TextAttention | None = None
        self.text_norm: nn.LayerNorm | None = None
        if c.uses_cross:
            text_width = c.width if c.text_projection else c.text_width
            self.text_attention = TextAttention(c.width, c.heads, text_width, c.qk_norm, c.norm_eps)
            self.text_norm = nn.LayerNorm(c.width, eps=c.norm_eps) if c.cross_norm else None

    def forward(self, x: Tensor, m: Tensor, rope: Tensor, text: tuple[Tensor, Tensor] | None, mask: Tensor | None):
        """x [B, t, n, D]; m [B, t or 1, 6, D] (shift, scale, gate of attention, then of feed-forward) -> like x."""
        shape = x.shape
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = m.unsqueeze(-2).unbind(-3)  # each [B, t or 1, 1, D]
        h = modulate(x, shift_a, scale_a, self.eps).flatten(1, 2)  # [B, L, D]
        x = torch.addcmul(x, gate_a, self.attention(h, rope).view(shape))
        if self.text_attention is not None:
            h = x if self.text_norm is None else self.text_norm(x)
            x = x + self.text_attention(h.flatten(1, 2), *text, mask).view(shape)
        h = modulate(x, shift_f, scale_f, self.eps)  # [B, t, n, D]
        return torch.addcmul(x, gate_f, self.feed_forward(h))


class FinalLayer(nn.Module):
    """Modulated norm, then the projection of each token to its patch of the prediction."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.eps = config.norm_eps
        pt, ph, pw = config.patch
        self.projection = nn.Linear(config.width, pt * ph * pw * config.predicted_channels)

    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        """x [B, t, n, D]; m [B, t or 1, 2, D] (shift, scale) -> [B, t, n, pt*ph*pw*C]."""
        shift, scale = m.unsqueeze(-2).unbind(-3)
        return self.projection(modulate(x, shift, scale, self.eps))
