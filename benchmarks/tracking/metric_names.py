"""Names of what is measured while a stage trains, as W&B has them."""

from __future__ import annotations

# What values are logged by, and shown over.
STEP = "step"
# The epoch of the stage that trains, beside `STEP`.
EPOCH = "epoch"
# Metrics of a stage, logged as `<stage>/<name>`, and what they are. Those of `NUMBERED` end in a number from 1.
METRICS = {
    "loss": "Training loss, mean since the last reading",
    "lr": "Learning rate of each group of weights",
    "gradient_norm": "Norm of the gradient before clipping",
    "samples_per_second": "Training examples per second",
    "peak_memory_bytes": "Most memory held so far, bytes",
    "quality": "What the stage's epoch is chosen by: NDCG@10 on validation for a recommender",
    "codes/utilisation": "Share of a level's codes in use",
    "codes/entropy": "Entropy of the use of a level's codes, nats",
    "codes/duplicates_before": "Share of items that share all codes with another, before the repair",
    "codes/duplicates_after": "The same after the repair",
    "codes/churn": "Share of items whose codes changed since the last check",
}
NUMBERED = ("lr", "codes/utilisation", "codes/entropy")
