"""Workflows that autodiscovery finds; tests put further ones into their own modules."""
