"""Attention and feed-forward of a block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .rope import rotate

_LARGEST_PLAIN = 2**26  # numbers in an attention matrix that is kept for the backward pass: 128 MB in bfloat16


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention, the only one of the library.

    q [B, L, heads, d], k and v [B, M, heads, d], mask [B, M] bool (True = look at it) -> [B, L, heads * d].
    """
    if mask is not None:
        mask = mask[:, None, None, :]
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    if _plain_is_faster(q, k):
        out = plain_attention(q, k, v, mask)
    else:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(1, 2).flatten(2)


def plain_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention with its whole matrix in memory: q [B, heads, L, d], k, v [B, heads, M, d] -> [B, heads, L, d]."""
    scores = (q * q.shape[-1] ** -0.5) @ k.mT  # [B, heads, L, M]
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return torch.softmax(scores, -1, dtype=torch.float32).to(v.dtype) @ v


def _plain_is_faster(q: Tensor, k: Tensor) -> bool:
    """Training in bfloat16 on a CPU: torch's fused backward makes no use of the matrix units that the products have."""
    if not (q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.requires_grad and torch.is_grad_enabled()):
        return False
    return q.shape[:3].numel() * k.shape[2] <= _LARGEST_PLAIN


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last axis (arXiv:1910.07467)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Same shape and type as x."""
        return F.rms_norm(x, self.weight.shape, self.weight.to(x), self.eps)  # device too: it may be offloaded


class QueryKeyNorm(nn.Module):
    """RMS norm of queries or keys [..., heads, d], over one head (`head`), over all heads (`width`) or none."""

    def __init__(self, kind: str, heads: int, head_width: int, eps: float) -> None:
        super().__init__()
        self.kind = kind
        if kind != "none":
            self.norm = RMSNorm(head_width if kind == "head" else heads * head_width, eps)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x."""
        if self.kind == "none":
            return x
        if self.kind == "head":
            return self.norm(x)
        return self.norm(x.flatten(-2)).view(x.shape)


class SelfAttention(nn.Module):
    """Every token looks at every token of the clip; rotary positions; queries, keys and values in one product."""

    def __init__(self, width: int, heads: int, qk_norm: str, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_q = QueryKeyNorm(qk_norm, heads, width // heads, eps)
        self.norm_k = QueryKeyNorm(qk_norm, heads, width // heads, eps)

    def forward(self, x: Tensor, rope: Tensor) -> Tensor:
        """x [B, L, D], rope [L, d/2, 2] -> [B, L, D]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        q = rotate(self.norm_q(q), rope)
        k = rotate(self.norm_k(k), rope)
        return self.out(attend(q.to(v.dtype), k.to(v.dtype), v))


class TextAttention(nn.Module):
    """Tokens look at the text. Keys and values depend on the text only: `project` makes them once for a prompt."""

    def __init__(self, width: int, heads: int, text_width: int, qk_norm: str, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(text_width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm_q = QueryKeyNorm(qk_norm, heads, width // heads, eps)
        self.norm_k = QueryKeyNorm(qk_norm, heads, width // heads, eps)

    def project(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Context [B, M, text_width] -> keys and values, each [B, M, heads, d]."""
        k, v = self.kv(context).unflatten(-1, (2, self.heads, -1)).unbind(-3)
        return self.norm_k(k).to(v.dtype), v

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """x [B, L, D], keys and values [P, M, heads, d] -> [B, L, D]; P = B, or P prompts for B / P clips each, one
        prompt's clips after the other's."""
        q = self.norm_q(self.q(x).unflatten(-1, (self.heads, -1)))
        q = q.to(values.dtype).reshape(len(keys), -1, *q.shape[2:])  # all clips of a prompt look at the same keys
        return self.out(attend(q, keys, values, mask).view(x.shape))


class FeedForward(nn.Module):
    """Pointwise feed-forward: D -> ff_width -> D with GELU (tanh), ReLU, or SwiGLU (arXiv:2002.05202)."""

    def __init__(self, width: int, ff_width: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.inner = nn.Linear(width, 2 * ff_width if kind == "swiglu" else ff_width)
        self.outer = nn.Linear(ff_width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x."""
        x = self.inner(x)
        if self.kind == "swiglu":
            gate, value = x.chunk(2, dim=-1)
            x = F.silu(gate) * value
        elif self.kind == "gelu":
            x = F.gelu(x, approximate="tanh")
        else:
            x = F.relu(x)
        return self.outer(x)
