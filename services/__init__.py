"""What outlives a trial: the MLflow record, the leaderboard, significance, reproduction."""
