"""Mutated genuine deliveries, and what the webhook may answer to each class of them."""
