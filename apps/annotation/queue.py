"""Positions in the queue: waves of prompts, and within a wave every first seat before any second one."""

_ORDINALS_PER_WAVE = 2**16  # ordinals are 16-bit, so waves never overlap whatever the overlap becomes


def queue_position(place: int, ordinal: int, prompts_per_wave: int) -> int:
    """Position of seat `ordinal` of the prompt at `place` (from 0) in the random order."""
    wave, column = divmod(place, prompts_per_wave)
    return (wave * _ORDINALS_PER_WAVE + ordinal) * prompts_per_wave + column


def wave_of(position: int, prompts_per_wave: int) -> int:
    """The wave of a queue position, from 1."""
    return position // prompts_per_wave // _ORDINALS_PER_WAVE + 1
