"""Training: what moves only the transformer (and its text encoder), and what makes the autoencoder before it.

One loop for all (`loop.run_loop`): it steps, clips, averages, logs, saves and stops. What a step computes is a function
of its number alone, so a training that goes on does what it would have done. Around it:

    state, resume        what is kept on disk; what differs when another training wants to go on from it
    callbacks, log       what is told while it runs: progress, lines of the log, samples; how it is stopped
    divergence           the watch that stops before a bad state is saved
    optim                optimisers, learning rate schedules, moving average
    transformer, lora    denoising cached latents: from scratch, on from a checkpoint, or low-rank layers only
    autoencoder, feed    reconstruction of clips; likelihood, perceptual, adversary and discriminator are its terms
    export, starter      from a state to a checkpoint; the command that trains the bundled model

To add
    an objective         a class in `diffusion.objectives`: the step asks it for sigma, noisy input, target,
                         timestep; and its name in `TransformerConfig`, New Model and `nodes.in_comfyui.model`
    an optimiser         a function of the named parameters in `optim.OPTIMISERS`
    a schedule           a name in `optim.SCHEDULES` and its line in `learning_rate`
    a data set           anything that fulfils `data.TrainingClips`; or, encoded already, `latents.Latents`
    a training           a step function and a `TrainingState` that names all that it changes; `reading` is the shortest
"""
