"""The autoencoder in pieces: causality, chunks equal to the whole clip, and memory that does not grow with it."""

from __future__ import annotations

import pytest
import torch
from autoencoders import BOTH, build, clip
from sora_dit.dit_core.autoencoder import Stream
from sora_dit.dit_core.autoencoder.layers import CausalConv3d
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

pytestmark = pytest.mark.usefixtures("one_thread")


# --- causality and chunks ---


@BOTH
@torch.no_grad()
def test_a_later_frame_never_changes_an_earlier_latent(config):
    model, video = build(config), clip(17)
    latent = model.encode(video).mean
    for frame in range(17):
        changed = video.clone()
        changed[:, :, frame] *= -1
        first = (frame + 3) // 4  # latent k sees frames up to 4k
        other = model.encode(changed).mean
        assert torch.equal(other[:, :, :first], latent[:, :, :first])
        assert not torch.allclose(other[:, :, first], latent[:, :, first], atol=1e-4)


@BOTH
@torch.no_grad()
def test_a_later_latent_never_changes_earlier_frames(config):
    model, latent = build(config), torch.randn(1, 4, 5, 2, 3)
    video = model.decode(latent)
    for index in range(5):
        changed = latent.clone()
        changed[:, :, index] *= -1
        first = max(4 * index - 3, 0)  # latent k makes frames 4k-3 to 4k
        other = model.decode(changed)
        assert torch.equal(other[:, :, :first], video[:, :, :first])
        assert not torch.allclose(other[:, :, first], video[:, :, first], atol=1e-4)


@BOTH
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 16, 17, 99])
@torch.no_grad()
def test_encoding_in_chunks_equals_the_whole_clip(size, config):
    model, video = build(config), clip(17, batch=2)
    whole, chunked = model.encode(video), model.encode(video, chunk_frames=size)
    torch.testing.assert_close(chunked.mean, whole.mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(chunked.logvar, whole.logvar, atol=1e-5, rtol=0)


@BOTH
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 99])
@torch.no_grad()
def test_decoding_in_chunks_equals_the_whole_clip(size, config):
    model, latent = build(config), torch.randn(2, 4, 5, 2, 3)
    torch.testing.assert_close(model.decode(latent, chunk_latents=size), model.decode(latent), atol=1e-5, rtol=0)


@torch.no_grad()
def test_uneven_chunks_and_chunks_from_an_iterator():
    model, video = build(), clip(13)
    whole = model.encode(video).mean
    pieces = list(model.encode_chunks(iter(video.split([2, 1, 6, 1, 3], 2))))
    assert [p.mean.shape[2] for p in pieces] == [1, 2, 1]
    torch.testing.assert_close(torch.cat([p.mean for p in pieces], 2), whole, atol=1e-5, rtol=0)
    frames = list(model.decode_chunks(iter(whole.split([1, 2, 1], 2))))
    assert [f.shape[2] for f in frames] == [1, 8, 4]
    torch.testing.assert_close(torch.cat(frames, 2), model.decode(whole), atol=1e-5, rtol=0)


def test_chunks_are_worked_on_only_when_asked_for():
    model, seen = build(), []

    def frames():
        for index, piece in enumerate(clip(9).split([1, 4, 4], 2)):
            seen.append(index)
            yield piece

    chunks = model.encode_chunks(frames())
    assert seen == []
    next(chunks)
    assert seen == [0]


def test_two_streams_of_one_model_do_not_meet():
    model, first, second = build(), torch.randn(1, 4, 3, 2, 3), torch.randn(1, 4, 3, 2, 3)
    with torch.no_grad():
        pairs = list(zip(model.decode_chunks(first), model.decode_chunks(second), strict=True))
        torch.testing.assert_close(torch.cat([a for a, _ in pairs], 2), model.decode(first), atol=1e-5, rtol=0)
        torch.testing.assert_close(torch.cat([b for _, b in pairs], 2), model.decode(second), atol=1e-5, rtol=0)


# --- memory ---


class LargestLive(TorchDispatchMode):
    """Counts the bytes of all storages alive that operators inside the block have made; remembers the most."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[torch.multiprocessing.reductions.StorageWeakRef, int]] = {}
        self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                ref = torch.multiprocessing.reductions.StorageWeakRef(storage)
                self.alive[ref.cdata] = (ref, storage.nbytes())
        self.alive = {key: value for key, value in self.alive.items() if not value[0].expired()}
        self.most = max(self.most, sum(size for _, size in self.alive.values()))
        return out


def _most_bytes(run) -> int:
    with torch.no_grad(), LargestLive() as counter:
        run()
    return counter.most


@pytest.mark.parametrize("size", [1, 2])
def test_memory_of_a_chunked_decode_does_not_grow_with_the_clip(size):
    model = build()

    def decode(frames: int) -> None:
        latents = (torch.zeros(1, 4, size, 2, 3) for _ in range(frames // size))
        for _ in model.decode_chunks(latents):
            pass

    short, long = _most_bytes(lambda: decode(12)), _most_bytes(lambda: decode(48))
    assert short == long
    whole = torch.zeros(1, 4, 48, 2, 3)
    assert _most_bytes(lambda: model.decode(whole)) > 4 * long  # the counter does see a clip held whole


@pytest.mark.parametrize("size", [1, 4, 6])
def test_memory_of_a_chunked_encode_does_not_grow_with_the_clip(size):
    model = build()

    def encode(frames: int) -> None:
        starts = range(0, frames, size)
        for _ in model.encode_chunks(torch.zeros(1, 3, min(size, frames - start), 16, 24) for start in starts):
            pass

    short, long = _most_bytes(lambda: encode(49)), _most_bytes(lambda: encode(193))
    assert short == long
    whole = torch.zeros(1, 3, 193, 16, 24)
    assert _most_bytes(lambda: model.encode(whole)) > 4 * long


@torch.no_grad()
def test_a_stream_holds_exactly_the_frames_each_convolution_still_needs():
    model, stream, held = build(), Stream(), []
    for chunk in clip(17).split([1, 8, 4, 4], 2):
        model.encoder(chunk, stream)
        held.append(stream.nbytes)
    convs = [m for m in model.encoder.modules() if isinstance(m, CausalConv3d)]
    for conv in convs:
        assert stream.past(conv).shape[2] == conv.kernel_size[0] - conv.stride[0]
        assert stream.past(conv).untyped_storage().nbytes() == stream.past(conv).nbytes  # no view of a chunk
    assert len(set(held)) == 1 and held[0] > 0
