"""Deduplicates images from Python code, as in a notebook: `beam_dedup.dedup`."""
