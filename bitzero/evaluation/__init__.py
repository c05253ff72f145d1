"""Asking a model: held-out questions, their judged answers, and what the shares mean. No files and no clock."""
