"""HTTP codecs and message context: bytes in, heads and bodies out. Pure."""
