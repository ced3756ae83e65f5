"""Runs one delivery: claim, replay, execute, record, suspend, publish.

Knows a journal and a transport by their protocols, and asgiref and httpx; neither Django
nor QStash.
"""
