"""Reaching registries with trio: files, host names, and the freshness contract that every namer keeps."""
