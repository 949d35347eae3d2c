"""Sources of conversations: reading rows, and converting rows to conversations."""
