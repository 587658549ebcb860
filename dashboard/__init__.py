"""The web dashboard: shows what the backend decides and what serving answers, over HTTP only."""
