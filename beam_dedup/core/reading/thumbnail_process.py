"""Runs a decoder process that makes thumbnails instead of fingerprints: a module for `IsolatedDecoder`."""

from beam_dedup.core.imaging.thumbnail import make
from beam_dedup.core.reading.decoder_process import main

IMAGES_PER_REPLY = 64  # a thumbnail takes 48 KiB

if __name__ == "__main__":
    main(images_per_reply=IMAGES_PER_REPLY, make=make)
