"""Trust-region Bayesian optimization on the unit cube; knows nothing of images or physics."""
