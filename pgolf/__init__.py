"""The trial: one config in, one deployed tuple out. Knows no ray, no optuna, no mlflow."""

__version__ = "0.1.0"
