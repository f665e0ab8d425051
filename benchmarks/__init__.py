"""Speed, as ratios: `make benchmark` runs them all."""
