"""What outlives a trial: the MLflow record, the leaderboard, significance, reproduction, submission folders.

MLflow reads its switches from the environment while it is being imported, so they are set here, which
Python runs before any module of this package, and only where the user has not set them: no telemetry,
no git probing, and HTTP retries short enough that a dead server costs seconds per attempt instead of
minutes (services.tracking retries at its own pace).
"""

import os

for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}.items():
    os.environ.setdefault(_name, _value)
