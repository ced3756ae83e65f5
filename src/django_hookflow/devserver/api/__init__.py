"""The HTTP endpoints, one small function each, by what they are about."""
