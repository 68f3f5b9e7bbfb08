"""Sweeps: a model's `tuned` fields searched by Optuna for the best validation NDCG@10, under the same budget, sampler
and pruner for every model.

A study never grades the test part. Its trials are kept in a file of the work folder, shared by processes of one
machine, or on PostgreSQL, shared by any number of machines; either way workers may be killed at any moment.
"""
