"""A person at the keyboard: questions to a trained model, answered, checked by running Python, and remembered."""
