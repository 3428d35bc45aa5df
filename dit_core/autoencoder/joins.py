"""Boxes that join although their latents are not quite right.

Least squares fits a linear decoder to latents of real clips, where neighbours agree. The latents that a diffusion model
makes have each an error of its own. What the decoder answers to one latent's error reaches over the neighbouring boxes,
but nothing makes it fade: it breaks off at borders, and in a calm sky the grid is seen. Transform coding knows the
remedy, basis functions that overlap and are continuous across borders (lapped transforms, Malvar & Staelin 1989). Here
they come from adding to what least squares minimises, per box,

    weight * the sum over pairs of pixels on both sides of its borders of E[(step of D e)^2]

for errors e that are independent from latent to latent. That is still quadratic in the decoder D.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# (axis of the pixel in a box, axis of the latent in a neighbourhood) of weights, the axis of outputs unfolded
_TIME, _ROWS, _COLUMNS = (1, 5), (2, 6), (3, 7)


@dataclass(frozen=True)
class Joins:
    """What is known of the errors, and how much a step between boxes matters beside the squared error of a pixel.

    deviation: standard deviation of a generated latent's error in each channel, [C].
    space, time: weights of the steps between neighbouring rows and columns, and between frames.
    """

    deviation: Tensor
    space: float = 3.0  # with 2 the grid of the starter's clips still shows, with more real clips lose too much
    time: float = 0.2


def solve_joined(
    weight: Tensor, squares: Tensor, products: Tensor, joins: Joins, box: tuple[int, int], steps: int = 40
) -> Tensor:
    """The decoder's weights with the steps between boxes added to least squares, by conjugate gradients.

    weight: `[channels * t * s * s, C, depth, sides, sides]`, where to begin: the least squares solution is near.
    squares, products: E[n n^T] `[K, K]` and E[n y^T] `[K, outputs]` of neighbourhoods n and boxes y, both without
    their means, K = C * depth * sides^2. box: t frames and s pixels.
    """
    variance = joins.deviation.to(squares).square()[:, None, None, None].expand(weight.shape[1:])
    diagonal = squares.diagonal() + 0.5 * joins.space * variance.flatten()  # eases the way, roughly is enough
    flat, target = weight.flatten(1).to(squares), products.T

    def normal(x: Tensor) -> Tensor:
        return x @ squares + _steps_gradient(x.view(weight.shape), joins, box).flatten(1)

    rest = target - normal(flat)
    direction = eased = rest / diagonal
    power = (rest * eased).sum()
    for _ in range(steps):
        image = normal(direction)
        length = power / (direction * image).sum().clamp_min(torch.finfo(power.dtype).tiny)
        flat, rest = flat + length * direction, rest - length * image
        eased, before = rest / diagonal, power
        power = (rest * eased).sum()
        direction = eased + power / before.clamp_min(torch.finfo(power.dtype).tiny) * direction
    return flat.view(weight.shape).to(weight)


def _steps_gradient(weight: Tensor, joins: Joins, box: tuple[int, int]) -> Tensor:
    """Half the gradient of the weighted, expected squared steps across a box's borders, shaped as `weight`."""
    time, space = box
    w = weight.view(-1, time, space, space, *weight.shape[1:])  # [c, t, s, s, C, depth, sides, sides]
    gradient = torch.zeros_like(w)
    variance = joins.deviation.to(weight).square()[:, None, None, None]
    for (pixel, latent), strength in ((_TIME, joins.time), (_ROWS, joins.space), (_COLUMNS, joins.space)):
        last, first = w.select(pixel, -1), w.select(pixel, 0)
        near = latent - 1  # one axis less: that of the pixel is gone
        count, outside = last.shape[near], torch.zeros_like(last.narrow(near, 0, 1))
        # the next box sees the same latent one place earlier in its neighbourhood
        step = strength * variance * (torch.cat([outside, first], near) - torch.cat([last, outside], near))
        gradient.select(pixel, 0).add_(step.narrow(near, 1, count))
        gradient.select(pixel, -1).sub_(step.narrow(near, 0, count))
    return gradient.view(weight.shape)
