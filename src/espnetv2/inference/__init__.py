"""Prediction: source -> preprocessing -> network -> result."""
