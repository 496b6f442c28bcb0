"""Gradients: bounded Levenberg-Marquardt with priors, and the errors of its result."""
