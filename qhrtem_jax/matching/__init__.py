"""How well a simulated image matches an experimental one: criteria, noise, objective."""
