"""Sound files in and out."""

from __future__ import annotations

import io as bytes_io
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...dit_core.checkpoint.atomic import reason
from ...dit_core.errors import MediaError
from ..comfy_api import io, ui
from . import saving
from .base import CoreNode
from .image_files import prefix_input
from .ours import checks, files, handles, host

_MOST_CHANNELS = 7  # PyAV hands over no more planes; further channels are mixed down to stereo


class LoadAudio(CoreNode):
    """File -> AUDIO; of a video its sound."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadAudio",
            display_name="Load Audio",
            category="audio",
            description="Reads sound from a file in the input folder; of a video its sound track.",
            inputs=[
                io.Combo.Input(
                    "audio",
                    options=sorted({*host.input_files("audio"), *host.input_files("video")}),
                    upload=io.UploadType.audio,
                    tooltip='The file in the input folder; "name.flac [output]" is one in the output folder.',
                )
            ],
            outputs=[io.Audio.Output()],
        )

    @classmethod
    def validate_inputs(cls, audio=None) -> bool | str:
        return checks.verdict(audio=lambda: audio is None or host.input_path(audio))

    @classmethod
    def fingerprint_inputs(cls, audio) -> list:
        return list(files.file_identity(host.input_path(audio)))

    @classmethod
    def execute(cls, audio) -> io.NodeOutput:
        return io.NodeOutput(read_whole_sound(host.input_path(audio)))


def read_whole_sound(path: Path) -> dict[str, Any]:
    """The first sound track of a file as AUDIO: `{"waveform": [1, C, S] float32 in -1..1, "sample_rate": Hz}`.

    Raises:
        MediaError: no such track, or it cannot be decoded.
    """
    import av
    import numpy as np
    import torch

    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.audio:
                raise MediaError(f"{path} has no sound; expected a sound file, or a video with sound.")
            stream = container.streams.audio[0]
            context = stream.codec_context
            layout = "stereo" if context.channels > _MOST_CHANNELS else context.layout
            resampler = av.AudioResampler(format="fltp", layout=layout, rate=context.sample_rate)
            pieces = []
            for frame in (*container.decode(stream), None):  # None hands out what is held back
                if frame is not None:
                    frame.pts = None
                pieces += [piece.to_ndarray() for piece in resampler.resample(frame)]
                host.check_cancelled()
            rate = context.sample_rate
    except OSError as error:
        why = reason(error) if 0 < (error.errno or 0) < 200 else "it is damaged, or no sound file"
        raise MediaError(f"{path} cannot be read as sound: {why}.") from error
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(f"{path} cannot be read as sound: it is damaged, or no sound file.") from error
    if not pieces:
        raise MediaError(f"{path} cannot be read as sound: nothing in it can be decoded; it may be damaged.")
    return {"waveform": torch.from_numpy(np.concatenate(pieces, 1))[None], "sample_rate": rate}


class SaveAudio(CoreNode):
    """AUDIO -> FLAC files, one for each sound of the batch."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaveAudio",
            display_name="Save Audio (FLAC)",
            category="audio",
            description="Writes sound as FLAC, which loses nothing, with the workflow in it.",
            inputs=[io.Audio.Input("audio"), prefix_input("audio/ComfyUI")],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None) -> bool | str:
        return saving.prefix_verdict(filename_prefix)

    @classmethod
    def execute(cls, audio, filename_prefix="ComfyUI") -> io.NodeOutput:
        from ...dit_core.media.audio import Sound

        _require_sound(audio)
        texts = host.run_metadata(cls)
        sounds = [Sound({"waveform": one, "sample_rate": audio["sample_rate"]}) for one in audio["waveform"]]

        def write(number: int, path: Path) -> None:
            path.write_bytes(_flac(sounds[number], texts))

        return io.NodeOutput(ui=ui.SavedAudios(saving.save(cls, filename_prefix, "flac", write, len(sounds))))


def _require_sound(audio: Any) -> None:
    """Raise unless there is an AUDIO: a video without sound gives none."""
    if audio is None:
        raise MediaError("audio is nothing: the video it comes from has no sound; expected an AUDIO.")
    handles.check_audio(audio)


def _flac(sound: Any, texts: dict[str, str]) -> bytes:
    """A FLAC file in memory, so that a full disk meets our own writing and not FFmpeg's."""
    import av

    buffer = bytes_io.BytesIO()
    with av.open(buffer, "w", format="flac") as container:
        container.metadata.update(texts)
        stream = container.add_stream("flac", rate=sound.rate)
        stream.codec_context.layout = sound.layout
        for block in sound.until(Fraction(sound.samples, sound.rate)):
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    return buffer.getvalue()


class PreviewAudio(CoreNode):
    """AUDIO -> nothing: there is nobody to listen, but what leads to it is run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PreviewAudio",
            display_name="Preview Audio",
            category="audio",
            description="Plays sound in the editor. Headless it writes nothing; use Save Audio to keep it.",
            inputs=[io.Audio.Input("audio")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, audio) -> io.NodeOutput:
        _require_sound(audio)
        host.note(cls, "Without the editor there is nothing to listen to; use a Save Audio node to keep the sound.")
        return io.NodeOutput(ui=ui.PreviewAudio(audio, cls=cls))


NODES = (LoadAudio, SaveAudio, PreviewAudio)
