"""Writes kept images into shards: files of many images, with what belongs to each."""
