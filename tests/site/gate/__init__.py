"""The gate: l4d2site/gate/."""
