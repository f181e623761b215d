"""Recall: answers to a `Query`, each with its reason and its evidence."""
