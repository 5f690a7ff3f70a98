"""Example jobs for the documentation, by title."""

from __future__ import annotations

from typing import Any

#: Shown beside POST /v1/jobs; a test submits every one.
EXAMPLES: dict[str, dict[str, Any]] = {
    "train": {
        "summary": "Train the CNN on the built-in digits",
        "value": {
            "kind": "train",
            "name": "digits nightly",
            "model": {"family": "cnn", "framework": "torch", "preset": "mnist-3conv"},
            "dataset": "digits",
            "training": {"epochs": 5, "batch_size": 64},
            "register_as": "digits",
        },
    },
    "train, every choice": {
        "summary": "A smaller model of your own: overrides, early stopping, checkpoints, a deadline",
        "value": {
            "kind": "train",
            "model": {
                "family": "cnn",
                "preset": "mnist-2conv",
                "filters": [16, 32],
                "dense": [64],
                "dropout": 0.2,
                "normalization": "batch",
            },
            "dataset": "digits",
            "training": {
                "epochs": 20,
                "batch_size": 32,
                "optimizer": "adamw",
                "learning_rate": 0.002,
                "lr_schedule": "cosine",
                "warmup_steps": 20,
                "grad_clip": 1.0,
                "seed": 7,
                "early_stopping": {"metric": "val_loss", "patience": 3},
                "augment": ["shift", "rotate"],
            },
            "checkpoint": {"every_steps": 50, "keep_last": 2, "keep_best": True},
            "resources": {"device": "cpu"},
            "priority": 7,
            "timeout_seconds": 3600,
            "tags": {"team": "vision"},
        },
    },
    "finetune": {
        "summary": "Go on from the champion of a registered model",
        "value": {
            "kind": "finetune",
            "model_ref": "digits",
            "dataset": "digits",
            "freeze": "features",
            "training": {"epochs": 2, "learning_rate": 0.0005},
        },
    },
    "batch_infer": {
        "summary": "Predict every row of a data set",
        "value": {"kind": "batch_infer", "model_ref": "digits", "dataset": "digits", "inference": {"output": "jsonl"}},
    },
    "batch_infer, generate": {
        "summary": "Let a registered language model continue two beginnings",
        "value": {
            "kind": "batch_infer",
            "model_ref": "shakespeare",
            "inference": {
                "task": "generate",
                "prompts": ["ROMEO:", "First Citizen:"],
                "max_new_tokens": 200,
                "temperature": 0.8,
                "top_k": 40,
                "seed": 1,
            },
        },
    },
    "evaluate": {
        "summary": "Measure a model on a data set",
        "value": {"kind": "evaluate", "model_ref": "digits@champion", "dataset": "digits"},
    },
}

#: Name in the documentation -> summary and batch.
BATCH_EXAMPLES: dict[str, Any] = {
    "three at once": {
        "summary": "Train with three learning rates; one refused job refuses all",
        "value": {
            "jobs": [
                {**EXAMPLES["train"]["value"], "training": {"learning_rate": rate}} for rate in (0.0003, 0.001, 0.003)
            ]
        },
    },
    "each by itself": {
        "summary": "Two evaluations; a refused one does not hinder the other",
        "value": {
            "mode": "each",
            "jobs": [
                {"kind": "evaluate", "model_ref": ref, "dataset": "digits"} for ref in ("digits@champion", "digits@1")
            ],
        },
    },
}

#: Name in the documentation -> summary and sweep.
SWEEP_EXAMPLES: dict[str, Any] = {
    "tpe": {
        "summary": "Forty trials on the digits; bad ones finish early, the best is registered",
        "value": {
            "name": "digits",
            "job": {"kind": "train", "model": {"family": "cnn", "preset": "mnist-2conv"}, "dataset": "digits"},
            "space": {
                "training.learning_rate": {"low": 0.0001, "high": 0.1, "log": True},
                "training.optimizer": {"choices": ["adam", "sgd"]},
                "training.momentum": {"low": 0.0, "high": 0.99, "when": {"training.optimizer": "sgd"}},
                "model.dropout": {"low": 0.0, "high": 0.5, "step": 0.1},
            },
            "objective": {"metric": "test_accuracy"},
            "trials": 40,
            "concurrency": 4,
            "pruner": "asha",
            "on_best": {"register_as": "digits"},
        },
    },
    "grid": {
        "summary": "Every combination of two settings",
        "value": {
            "job": {"kind": "train", "model": {"family": "cnn"}, "dataset": "digits"},
            "space": {
                "training.batch_size": {"choices": [32, 64, 128]},
                "training.epochs": {"low": 1, "high": 3},
            },
            "objective": {"metric": "test_loss"},
            "sampler": "grid",
        },
    },
}
