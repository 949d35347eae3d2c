"""MixEval and MixEval-Hard."""
